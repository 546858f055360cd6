//! Both framings, against known frames and arbitrary bytes.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn message(buffers: &[&[u8]]) -> Message {
    Message {
        channel: Channel::Iopub,
        header: Header {
            msg_id: "m".to_owned(),
            msg_type: "stream".to_owned(),
            ..Header::default()
        },
        parent_header: None,
        metadata: Json::default(),
        content: Json::new(&json!({"text": "hé"})).unwrap(),
        buffers: buffers.iter().map(|b| Bytes::copy_from_slice(b)).collect(),
    }
}

fn decode(framing: Framing, frame: Frame) -> Result<Message, WireError> {
    framing.decode(frame, &Limits::default())
}

/// Writes a v1 frame independently of the code above: offsets by adding up.
fn by_hand(parts: &[&[u8]]) -> Vec<u8> {
    let count = parts.len() + 1;
    let mut frame = (count as u64).to_le_bytes().to_vec();
    let mut offset = 8 + 8 * count;
    frame.extend((offset as u64).to_le_bytes());
    for part in parts {
        offset += part.len();
        frame.extend((offset as u64).to_le_bytes());
    }
    frame.extend(parts.concat());
    frame
}

const HEADER: &[u8] = br#"{"msg_id":"m","msg_type":"stream","session":"","username":""}"#;

#[test]
fn v1_is_laid_out_as_specified() {
    let content = r#"{"text":"hé"}"#.as_bytes();
    let want = by_hand(&[b"iopub", HEADER, b"{}", b"{}", content, b"\x00\xff", b""]);
    let message = message(&[b"\x00\xff", b""]);
    assert_eq!(
        Framing::V1.encode(&message).unwrap(),
        Frame::Binary(want.clone().into())
    );
    assert_eq!(want[..8], 8u64.to_le_bytes());
    assert_eq!(
        decode(Framing::V1, Frame::Binary(want.into())).unwrap(),
        message
    );
}

#[test]
fn plain_is_json_with_a_channel() {
    let Frame::Text(text) = Framing::Plain.encode(&message(&[])).unwrap() else {
        panic!("not text");
    };
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value,
        json!({
            "channel": "iopub", "msg_id": "m", "msg_type": "stream",
            "header": {"msg_id": "m", "msg_type": "stream", "session": "", "username": ""},
            "parent_header": {}, "metadata": {}, "content": {"text": "hé"}, "buffers": [],
        })
    );
    assert_eq!(
        decode(Framing::Plain, Frame::Text(text)).unwrap(),
        message(&[])
    );
}

#[test]
fn plain_with_buffers_is_binary() {
    let Frame::Binary(bytes) = Framing::Plain
        .encode(&message(&[b"ab", b"", b"c"]))
        .unwrap()
    else {
        panic!("not binary");
    };
    assert_eq!(bytes[..8], [0, 0, 0, 4, 0, 0, 0, 20]);
    assert_eq!(&bytes[bytes.len() - 3..], b"abc");
    let back = decode(Framing::Plain, Frame::Binary(bytes)).unwrap();
    assert_eq!(back, message(&[b"ab", b"", b"c"]));
}

#[test]
fn sage_cell_messages_lack_fields() {
    let text = r#"{"header":{"msg_id":"1","username":"","session":"s","msg_type":"execute_request"},
        "metadata":{},"content":{"code":"1"},"parent_header":{}}"#;
    let message = decode(Framing::Plain, Frame::Text(text.to_owned())).unwrap();
    assert_eq!(
        (message.channel, message.parent_header),
        (Channel::Shell, None)
    );
    let text = r#"{"header":{"msg_id":"1","msg_type":"x"},"content":{},"parent_header":null,
        "channel":"stdin","buffers":[],"extra":1}"#;
    let message = decode(Framing::Plain, Frame::Text(text.to_owned())).unwrap();
    assert_eq!(
        (message.channel, message.metadata.as_str()),
        (Channel::Stdin, "{}")
    );
}

#[test]
fn what_is_broken_is_said() {
    let good = by_hand(&[b"shell", HEADER, b"{}", b"{}", b"{}"]);
    let with = |at: usize, number: u64| {
        let mut frame = good.clone();
        frame[at * 8..at * 8 + 8].copy_from_slice(&number.to_le_bytes());
        frame
    };
    let mut long = good.clone();
    long.push(0);
    for (frame, part) in [
        (Vec::new(), "shorter than its first number"),
        (with(0, 5), "5 offsets, at least 6"),
        (with(0, u64::MAX), "more than the limit of 1000"),
        (with(0, 1006), "cannot hold 1006 offsets"),
        (with(1, 8), "offset 0 is 8, possible is 56"),
        (with(2, u64::MAX), "offset 1 is"),
        (with(3, 57), "offset 2 is 57"),
        (with(6, 3), "the last offset is 3"),
        (long, "the last offset is"),
        (
            by_hand(&[b"hb", HEADER, b"{}", b"{}", b"{}"]),
            "unknown channel \"hb\"",
        ),
        (
            by_hand(&[b"shell", b"{}", b"{}", b"{}", b"{}"]),
            "broken header: missing field",
        ),
        (
            by_hand(&[b"shell", HEADER, b"{\"a\":1}", b"{}", b"{}"]),
            "broken parent_header",
        ),
        (
            by_hand(&[b"shell", HEADER, b"{}", b"\xff", b"{}"]),
            "broken metadata",
        ),
        (
            by_hand(&[b"shell", HEADER, b"{}", b"{}", b"[]"]),
            "broken content: expected an object",
        ),
        (
            by_hand(&[b"shell", HEADER, b"{}", b"{}", b"{} x"]),
            "broken content: trailing",
        ),
    ] {
        let error = decode(Framing::V1, Frame::Binary(frame.into()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    for (text, part) in [
        ("", "broken message: EOF"),
        ("[]", "broken message"),
        (
            r#"{"header":{"msg_id":"","msg_type":""},"content":{},"channel":"x"}"#,
            "unknown channel",
        ),
        (
            r#"{"header":{"msg_id":"","msg_type":""},"content":{},"buffers":[{}]}"#,
            "cannot have buffers",
        ),
    ] {
        let error = decode(Framing::Plain, Frame::Text(text.to_owned()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = decode(Framing::V1, Frame::Text("{}".to_owned())).unwrap_err();
    assert!(matches!(error, WireError::TextInV1));
}

#[test]
fn limits_are_kept() {
    let frame = Framing::V1.encode(&message(&[b"x", b"y"])).unwrap();
    let tight = Limits {
        frame: 10,
        ..Limits::default()
    };
    let error = Framing::V1
        .decode(frame.clone(), &tight)
        .unwrap_err()
        .to_string();
    assert!(error.contains("larger than the limit of 10"), "{error}");
    let few = Limits {
        buffers: 1,
        ..Limits::default()
    };
    let error = Framing::V1.decode(frame, &few).unwrap_err().to_string();
    assert_eq!(error, "2 buffers are more than the limit of 1");
    // Deep nesting is passed on unread, and not on the stack.
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let frame = by_hand(&[b"shell", HEADER, b"{}", b"{}", deep.as_bytes()]);
    let message = decode(Framing::V1, Frame::Binary(frame.into())).unwrap();
    assert!(message.content.read::<Value>().is_err());
}

#[test]
fn the_subprotocol_is_chosen_from_the_offer() {
    assert_eq!(Framing::of_offer(["x", V1_SUBPROTOCOL]), Framing::V1);
    assert_eq!(Framing::of_offer(["x"]), Framing::Plain);
    assert_eq!(Framing::of_offer([]), Framing::Plain);
    assert_eq!(Framing::V1.subprotocol(), Some(V1_SUBPROTOCOL));
}

prop_compose! {
    fn headers()(
        names in (any::<String>(), any::<String>(), any::<String>(), any::<String>()),
        date in any::<Option<String>>(),
        version in any::<Option<String>>(),
        more in any::<Option<i64>>(),
    ) -> Header {
        let (msg_id, msg_type, session, username) = names;
        let more = more.map(|n| ("subshell_id".to_owned(), json!(n))).into_iter().collect();
        Header { msg_id, msg_type, session, username, date, version, more }
    }
}

prop_compose! {
    fn messages()(
        channel in 0..4usize,
        header in headers(),
        parent_header in proptest::option::of(headers()),
        texts in (any::<String>(), any::<String>()),
        buffers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4),
    ) -> Message {
        Message {
            channel: Channel::ALL[channel],
            header,
            parent_header,
            metadata: Json::new(&json!({texts.0: [1.5, null]})).unwrap(),
            content: Json::new(&json!({"text": texts.1})).unwrap(),
            buffers: buffers.into_iter().map(Bytes::from).collect(),
        }
    }
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(message in messages()) {
        for framing in [Framing::V1, Framing::Plain] {
            let frame = framing.encode(&message).unwrap();
            prop_assert_eq!(&decode(framing, frame).unwrap(), &message);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        for framing in [Framing::V1, Framing::Plain] {
            let _ = decode(framing, Frame::Binary(bytes.clone().into()));
            let _ = decode(framing, Frame::Text(text.clone()));
        }
    }

    #[test]
    fn no_change_of_a_frame_makes_it_panic(
        message in messages(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        for framing in [Framing::V1, Framing::Plain] {
            if let Frame::Binary(bytes) = framing.encode(&message).unwrap() {
                let mut bytes = bytes.to_vec();
                // Mostly the numbers at the beginning.
                let i = at.index(bytes.len().min(80));
                bytes[i] = to;
                let _ = decode(framing, Frame::Binary(bytes.clone().into()));
                bytes.truncate(cut.index(bytes.len()));
                let _ = decode(framing, Frame::Binary(bytes.into()));
            }
        }
    }
}
