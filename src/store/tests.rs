//! What the store keeps, finds and forgives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
