//! All `unsafe`: one system call, one safe function each.
#![allow(unsafe_code)]
