//! What is read as one request by everybody, and what is not, however the bytes are cut.
#![allow(clippy::unwrap_used)]

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const GOOD: &[u8] =
    b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\na\n\nb\n\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n\
POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n\n\nabc\r\n0\r\nx-trailer: 1\r\n\r\nPUT /d HTTP/1.1\r\n\
Content-Length: 0\r\n\r\n";

/// What the parser sees of these bytes, written in pieces of that size, and the flaw.
async fn seen(bytes: &[u8], piece: usize, tunnels: bool) -> (Vec<u8>, Option<&'static str>) {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let mut strict = Strict::new(server, tunnels);
    let flaw = strict.flaw();
    let written = bytes.to_vec();
    let writer = tokio::spawn(async move {
        for piece in written.chunks(piece) {
            if client.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    let mut seen = Vec::new();
    strict.read_to_end(&mut seen).await.unwrap();
    writer.await.unwrap();
    (seen, flaw.get().copied())
}

#[tokio::test]
async fn what_is_clear_passes_unchanged_however_it_is_cut() {
    for piece in (1..=GOOD.len()).rev() {
        assert_eq!(seen(GOOD, piece, false).await, (GOOD.to_vec(), None), "pieces of {piece}");
    }
}

#[tokio::test]
async fn what_is_ambiguous_is_held_back_whole_however_it_is_cut() {
    let heads = [
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length:1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\tContent-Length: 1\r\n\r\n",
    ];
    for head in heads {
        let bytes = [GOOD, head.as_bytes(), b"x"].concat();
        for piece in [1, 2, 3, 7, 64, bytes.len()] {
            let (seen, flaw) = seen(&bytes, piece, false).await;
            assert_eq!((seen, flaw.is_some()), ([GOOD, POISON].concat(), true), "{head:?} in pieces of {piece}");
        }
    }
}

#[tokio::test]
async fn a_number_is_read_whole_or_not_at_all() {
    let zeros = |count: usize| "0".repeat(count);
    let length = |count| format!("POST / HTTP/1.1\r\nContent-Length:{}5\r\n\r\nhello", zeros(count));
    let chunk =
        |count| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}5\r\nhello\r\n0\r\n\r\n", zeros(count));
    // The kept part holds the name, the colon, the number and the carriage return, with a byte to spare; of a chunk, all but the line feed.
    let most = LINE_BYTES_KEPT - "Content-Length:5\r".len() - 1;
    for text in [length(most), chunk(LINE_BYTES_KEPT - 2)] {
        let bytes = [text.as_bytes(), GOOD].concat();
        assert_eq!(seen(&bytes, 7, false).await, (bytes.clone(), None), "{text}");
    }
    for text in [length(most + 1), chunk(LINE_BYTES_KEPT - 1), chunk(1000)] {
        let (seen, flaw) = seen(text.as_bytes(), 7, false).await;
        assert!(flaw.is_some_and(|flaw| flaw.contains("number")) && seen.ends_with(POISON), "{text}");
    }
    let trailers = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\n\nGET / HTTP/1.1\r\n\r\n";
    assert!(seen(trailers, 5, false).await.1.is_some());
}

#[tokio::test]
async fn what_follows_a_connect_is_looked_at_unless_it_is_a_tunnel() {
    let bytes = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET / HTTP/1.1\n\n";
    assert_eq!(seen(bytes, 5, true).await, (bytes.to_vec(), None));
    assert!(seen(bytes, 5, false).await.1.is_some());
}

#[tokio::test]
async fn what_the_parser_refuses_is_left_to_it() {
    for bytes in [
        &b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n\n\n"[..],
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\n\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n\n\n",
        b"GET / HTT",
    ] {
        assert_eq!(seen(bytes, 4, false).await, (bytes.to_vec(), None));
    }
}

#[tokio::test]
async fn a_head_of_any_length_up_to_the_limit_is_held_and_a_longer_one_is_the_parsers() {
    let head = |length: usize| {
        let frame = b"GET / HTTP/1.1\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(length - frame)).into_bytes()
    };
    for length in [HEAD_BYTES_MAX, HEAD_BYTES_MAX + 1, 2 * HEAD_BYTES_MAX] {
        let bytes = head(length);
        assert_eq!(seen(&bytes, 1000, false).await, (bytes.clone(), None), "{length}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics_and_nothing_is_lost(bytes in "[A-Z:/ \r\n\t0-9a-f]{0,200}", piece in 1_usize..50) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (seen, flaw) = runtime.block_on(seen(bytes.as_bytes(), piece, false));
        if flaw.is_none() {
            proptest::prop_assert_eq!(seen, bytes.into_bytes());
        }
    }
}
