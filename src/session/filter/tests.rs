//! What passes the filter and what does not, sequence by sequence; and that reads and order never matter.

use super::machine::STRING_BYTES_MAX;
use super::*;
use proptest::prelude::*;

fn rules() -> Rules {
    Rules::of(&Terminal::default())
}

fn strict() -> Rules {
    Rules::of(&Terminal { filter: TerminalFilter::Strict, ..Terminal::default() })
}

fn everything() -> Rules {
    Rules::of(&Terminal { clipboard: true, title: true, notifications: true, ..Terminal::default() })
}

/// What passes, as text in which ESC is ␛ and BEL is ␇.
fn pass_by(rules: Rules, output: &str) -> String {
    let output = output.replace('␛', "\x1b").replace('␇', "\x07");
    let passed = Filter::new(rules).pass(output.as_bytes());
    String::from_utf8(passed.bytes).unwrap().replace('\x1b', "␛").replace('\x07', "␇")
}

fn pass(output: &str) -> String {
    pass_by(rules(), output)
}

/// What was left out.
fn refused(output: &str) -> Vec<&'static str> {
    let output = output.replace('␛', "\x1b").replace('␇', "\x07");
    let mut filter = Filter::new(rules());
    filter.pass(output.as_bytes());
    filter.refused().keys().map(|kind| kind.as_str()).collect()
}

#[test]
fn what_full_screen_programs_draw_with_passes_as_it_is() {
    for output in [
        "plain \u{e9}\u{4e16}\u{1f980}\r\n\t\x08\x0e\x0f␇",
        "␛[1;31mred␛[0m␛[38:2::1:2:3mmany␛[4:3m",
        "␛[2J␛[3J␛[H␛[10;20H␛[K␛[?2K␛[5A␛[5X␛[2S␛[2T␛[1;24r␛[r␛[3b",
        "␛[?1049h␛[?25l␛[?2004h␛[?1000;1006h␛[?1004h␛[?2026h␛[?2026l␛[?1049l",
        "␛7␛8␛M␛c␛=␛>␛(0␛(B␛#8␛%G␛[s␛[u␛[!p␛[2 q",
        "␛[>1u␛[<u␛[=5;1u␛[>4;2m␛[>4m",
        "␛[6n␛[5n␛[c␛[0c␛[>c␛[>0q␛[?u␛[?6n␛[?996n␛[?2026$p␛[?1$p",
        "␛]11;?␇␛]10;?␛\\␛]4;7;?␇",
        "␛]8;id=a1;https://example.com/a?b=c␛\\link␛]8;;␛\\",
    ] {
        assert_eq!(pass(output), output);
        assert_eq!(refused(output), Vec::<&str>::new(), "{output}");
    }
}

#[test]
fn what_reaches_beyond_the_screen_is_left_out_and_the_text_around_it_stays() {
    for (output, kind) in [
        ("␛]52;c;aGk=␇", "clipboard"),
        ("␛]52;c;?␛\\", "clipboard"),
        ("␛]0;title␇", "title"),
        ("␛]2;title␛\\", "title"),
        ("␛ktitle␛\\", "title"),
        ("␛[21t", "window"),
        ("␛[8;1;1t", "window"),
        ("␛[14t", "window"),
        ("␛[22;0t", "window"),
        ("␛[5i", "printing"),
        ("␛[?5i", "printing"),
        ("\x05", "queries"),
        ("␛Z", "queries"),
        ("␛[=c", "queries"),
        ("␛[?15n", "queries"),
        ("␛[1;1;1;1;1;1*y", "queries"),
        ("␛[1$w", "other"),
        ("␛[x", "other"),
        ("␛P$qm␛\\", "device strings"),
        ("␛P+q544e␛\\", "device strings"),
        ("␛Ptmux;␛␛]52;c;aGk=␇␛\\", "clipboard"),
        ("␛Pq#0;2;0;0;0~-␛\\", "device strings"),
        ("␛_Gf=100,t=f;L2V0Yy9wYXNzd2Q=␛\\", "device strings"),
        ("␛^secret␛\\", "device strings"),
        ("␛Xsecret␛\\", "device strings"),
        ("␛]7;file://host/tmp␇", "other"),
        ("␛]9;note␇", "notifications"),
        ("␛]9;4;1;50␇", "notifications"),
        ("␛]777;notify;a;b␇", "notifications"),
        ("␛]99;;a␛\\", "notifications"),
        ("␛]1337;File=name=YQ==;inline=0:aGk=␇", "other"),
        ("␛]133;A␇", "other"),
        ("␛]633;E;rm -rf /␇", "other"),
        ("␛]50;font␇", "other"),
        ("␛]4;1;#000000␇", "colours"),
        ("␛]11;#000000␇", "colours"),
        ("␛]11;?;?␇", "colours"),
        ("␛[?2l", "modes"),
        ("␛[?38h", "modes"),
        ("␛[?3h", "modes"),
        ("␛[2h", "modes"),
        ("␛[?1001h", "modes"),
        ("␛[61;0\"p", "queries"),
        ("␛%@", "other"),
        ("␛ G", "other"),
        ("␛[1;2;3;4;5T", "other"),
        ("␛[99999b", "other"),
    ] {
        let around = format!("before{output}after");
        assert!(
            matches!(pass(&around).as_str(), "beforeafter" | "beforeafter␛\\"),
            "{output} became {}",
            pass(&around)
        );
        assert!(refused(output).contains(&kind), "{output} is {:?}", refused(output));
    }
}

#[test]
fn of_several_modes_those_that_are_allowed_pass() {
    assert_eq!(pass("␛[?25;2;1049l"), "␛[?25;1049l");
    assert_eq!(refused("␛[?25;2;1049l"), ["modes"]);
}

#[test]
fn a_link_to_anything_but_a_web_page_is_text() {
    for address in ["file:///etc/passwd", "ssh://host", "vscode://x", "javascript:alert(1)", "https://a b", "HTTPS://A"]
    {
        assert_eq!(pass(&format!("␛]8;;https://a/␛\\a␛]8;;{address}␛\\b")), "␛]8;;https://a/␛\\a␛]8;;␛\\b");
    }
    let long = "a".repeat(2083);
    assert_eq!(pass(&format!("␛]8;;https://{long}␛\\")), "␛]8;;␛\\");
    assert_eq!(pass_by(strict(), "␛]8;;https://a/␛\\a"), "␛]8;;␛\\a");
}

#[test]
fn what_a_profile_allows_passes_in_its_one_form() {
    let same = ["␛]52;c;aGk=␇", "␛]52;;␇", "␛]0;a title \u{e9}␇", "␛]9;done␛\\", "␛]9;4;1;50␇", "␛]777;notify;a;b␇"];
    for output in same {
        assert_eq!(pass_by(everything(), output), output);
    }
    let long = "x".repeat(257);
    for output in [
        "␛]52;c;?␇",
        "␛]52;c;a b␇",
        "␛]52;x;aGk=␇",
        "␛]52␇",
        "␛]0;a\nb␇",
        "␛]0;a\u{9b}31m␇",
        "␛]9;9;/tmp␇",
        "␛]9;1;2␇",
        "␛]777;run;a␇",
        "␛]99;;a␇",
        "␛[21t",
        &format!("␛]2;{long}␇"),
    ] {
        assert_eq!(pass_by(everything(), output), "", "{output}");
    }
}

#[test]
fn strict_asks_a_terminal_only_where_the_cursor_is_and_what_it_is() {
    assert_eq!(pass_by(strict(), "␛[6n␛[c␛[5n"), "␛[6n␛[c␛[5n");
    assert_eq!(pass_by(strict(), "␛[>c␛[>q␛[?u␛[?2026$p␛]11;?␇␛[?996n"), "");
}

#[test]
fn a_replay_asks_nothing_and_wants_no_mouse() {
    assert_eq!(pass_by(Rules::REPLAY, "␛[6n␛[c␛[5n␛[?1000h␛[?2004h␛[>1u␛[?25l␛[1mx"), "␛[?25l␛[1mx");
}

#[test]
fn controls_of_the_second_set_begin_nothing_in_either_encoding() {
    let mut filter = Filter::new(everything());
    for bytes in
        [&b"\x9b31m"[..], b"\x9d0;t\x07", b"\xc2\x9b31m", b"\xc2\x9d0;t\x07", b"\x90q\x9c", b"\xc2\x90q\xc2\x9c"]
    {
        let text = String::from_utf8(filter.pass(bytes).bytes).unwrap();
        assert!(text.starts_with('\u{fffd}') && !text.contains(|c| ('\u{80}'..='\u{9f}').contains(&c)), "{text:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}

#[test]
fn bytes_that_are_no_character_are_shown_as_such() {
    for bytes in [&b"\xff"[..], b"\xc0\xaf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        let mut filter = Filter::new(rules());
        let mut passed = filter.pass(bytes).bytes;
        passed.extend(filter.pass(b"ok").bytes);
        let text = String::from_utf8(passed).unwrap();
        assert!(
            text.ends_with("\u{fffd}ok") && text.trim_end_matches("ok").chars().all(|c| c == '\u{fffd}'),
            "{text:?}"
        );
    }
}

#[test]
fn a_string_without_an_end_takes_bounded_memory_and_ends_with_the_next_sequence() {
    let mut filter = Filter::new(everything());
    for _ in 0..40 {
        assert_eq!(filter.pass(&b"\x1b]52;c;"[..7]).bytes, b"");
        assert_eq!(filter.pass(&vec![b'A'; STRING_BYTES_MAX]).bytes, b"");
    }
    assert_eq!(filter.pass(b"A\x07").bytes, b"");
    assert_eq!(filter.pass(b"\x1b[1mback").bytes, b"\x1b[1mback");
    let mut filter = Filter::new(everything());
    filter.pass(b"\x1bPq");
    filter.pass(&vec![b'A'; 4 * STRING_BYTES_MAX]);
    assert_eq!(filter.pass(b"\x1b[1mback").bytes, b"\x1b[1mback");
}

#[test]
fn a_sequence_that_is_broken_off_takes_nothing_with_it() {
    assert_eq!(pass("␛[31␛[32mgreen"), "␛[32mgreen");
    assert_eq!(pass("␛[31\x18plain"), "plain");
    assert_eq!(pass("␛]52;c;aGk=\x18plain"), "plain");
    assert_eq!(pass("␛[3\r1mx"), "\r␛[31mx");
    assert_eq!(pass("␛[31\u{e9}m"), "\u{e9}m");
    assert_eq!(pass("␛[1?25hx"), "x");
    assert_eq!(pass(&format!("␛[{}mx", "1;".repeat(200))), "x");
}

#[test]
fn the_questions_are_told_apart_from_the_rest() {
    let passed = Filter::new(rules()).pass(b"a\x1b[6nb\x1b[c\x1b]11;?\x07c");
    let kinds: Vec<_> = passed.questions.iter().map(|(range, kind)| (&passed.bytes[range.clone()], *kind)).collect();
    let wanted: [(&[u8], Question); 3] =
        [(b"\x1b[6n", Question::Cursor), (b"\x1b[c", Question::Attributes), (b"\x1b]11;?\x07", Question::Other)];
    assert_eq!(kinds, wanted);
    assert_eq!(passed.unasked(), &b"abc"[..]);
}

#[test]
fn what_was_switched_is_switched_back_and_nothing_else() {
    let mut filter = Filter::new(rules());
    filter.pass(b"\x1b[?1049h\x1b[?25l\x1b[>1u\x1b[?2004;1006h\x1b[6 q\x1b[>4;2m\x1b[2;5r\x1b(0");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace('\x1b', "␛");
    assert_eq!(text(filter.modes().enter()), "␛[?1049h␛[?25l␛[?1006h␛[?2004h␛[>1u␛[>4;2m␛[6 q");
    let back = "␛[<1u␛[>4;0m␛[0 q␛7␛[r␛8␛(B\x0f␛[?25h␛[?1006l␛[?2004l␛[?1049l␛[m";
    assert_eq!(text(filter.modes().leave()), back);
    filter.pass(b"\x1b[0 q\x1b[>4;0m\x1b[r\x1b[<u\x1b[?2004;1006l\x1b[?25h\x1b[?1049l");
    assert_eq!(text(filter.modes().leave()), "␛(B\x0f␛[m");
    filter.pass(b"\x1bc");
    assert_eq!(filter.modes().leave(), b"");
}

/// An independent reading of what may pass: whole characters, some controls, and sequences of the allowed shapes.
fn is_harmless(mut text: &str) -> bool {
    while let Some(first) = text.chars().next() {
        let length = match first {
            '\x1b' => match sequence_length(&text[1..]) {
                Some(length) => 1 + length,
                None => return false,
            },
            '\x07' | '\x08' | '\t' | '\n' | '\x0b' | '\x0c' | '\r' | '\x0e' | '\x0f' => 1,
            _ if first.is_control() => return false,
            _ => first.len_utf8(),
        };
        text = &text[length..];
    }
    true
}

fn sequence_length(text: &str) -> Option<usize> {
    if let Some(rest) = text.strip_prefix('[') {
        let end = rest.find(|c: char| ('@'..='~').contains(&c))?;
        let known = rest[..end].chars().all(|c| c.is_ascii_digit() || ";:<=>? !\"#$'*".contains(c));
        return (known && !"itxy".contains(&rest[end..=end]) || rest[..end].ends_with(['$', '*'])).then_some(end + 2);
    }
    if let Some(rest) = text.strip_prefix(']') {
        let end = rest.find(['\x07', '\x1b'])?;
        let whole = if rest[end..].starts_with('\x07') { 1 } else { 2 };
        let known = ["8;", "10;?", "11;?", "12;?", "4;"].iter().any(|known| rest.starts_with(known));
        return (known && (whole == 1 || rest[end..].starts_with("\x1b\\"))).then_some(1 + end + whole);
    }
    let end = text.find(|c: char| ('0'..='~').contains(&c))?;
    (!"PX^_kZN".contains(&text[end..=end])).then_some(end + 1)
}

/// Output that is likely to hold something.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        prop::sample::select(vec![
            "\x1b[",
            "\x1b]",
            "\x1bP",
            "\x1b_",
            "\x1b\\",
            "\x07",
            "\x1b",
            "?",
            ";",
            "52;c;",
            "1049h",
            "25;2l",
            "6n",
            "0;t",
            "8;;https://a/",
            "8;;file:///",
            "31m",
            "\u{9b}",
            "\u{9c}",
            "\u{e9}",
            "\u{1f980}",
            "\x18",
            "$p",
            ">1u",
            "<u",
            "t",
            "i",
            "c",
            "\x1b%@",
            "\x1b(0",
            "q",
            "11;?",
            "tmux;",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn where_a_read_ends_never_matters(output in output(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut whole = Filter::new(rules());
        let at_once = whole.pass(&output);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(output.len() + 1)).chain([0, output.len()]).collect();
        cuts.sort_unstable();
        let mut piecemeal = Filter::new(rules());
        let mut passed = Passed::default();
        for pair in cuts.windows(2) {
            let piece = piecemeal.pass(&output[pair[0]..pair[1]]);
            let start = passed.bytes.len();
            passed.bytes.extend(piece.bytes);
            let shifted = piece.questions.into_iter().map(|(range, kind)| (range.start + start..range.end + start, kind));
            passed.questions.extend(shifted);
        }
        prop_assert_eq!(at_once, passed);
        prop_assert_eq!(whole.refused(), piecemeal.refused());
        prop_assert_eq!(whole.modes(), piecemeal.modes());
    }

    #[test]
    fn whatever_comes_in_only_what_is_listed_comes_out(output in output()) {
        let passed = Filter::new(rules()).pass(&output).bytes;
        let text = String::from_utf8(passed.clone()).unwrap();
        prop_assert!(is_harmless(&text), "{:?}", text);
        prop_assert_eq!(Filter::new(rules()).pass(&passed).bytes, passed, "filtering again changes nothing");
    }

    #[test]
    fn with_everything_allowed_there_is_still_no_control_of_the_second_set(output in output()) {
        let passed = Filter::new(everything()).pass(&output).bytes;
        let text = String::from_utf8(passed).unwrap();
        prop_assert!(!text.chars().any(|c| ('\u{80}'..='\u{9f}').contains(&c) || c == '\x05'), "{:?}", text);
    }
}
