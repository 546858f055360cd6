//! The plugin on real entities, on generated ones, and on nonsense.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};

use entity_convert::{EntityConvert, convert};
use proptest::prelude::*;
use runner_sdk::RunFailure;
use runner_sdk::entities::{Entity, Format};
use runner_sdk::testing::{Report, Trial};
use serde_json::Value;

const CSV: &str = "text/csv";
const JSON: &str = "application/json";
const LINES: &str = "application/X-lines+json";

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../tests/data/qhana")
        .join(name)
}

fn run(path: &Path, from: &str, to: &str) -> Result<Report, RunFailure> {
    Trial::new()
        .input("inputFileUrl", path, from)
        .parameter("outputFormat", to)
        .run(&EntityConvert)
}

/// Converts a sample; the text of its one output.
fn converted(name: &str, from: &str, to: &str) -> String {
    let mut report = run(&sample(name), from, to).unwrap();
    assert_eq!(report.outputs.len(), 1);
    let output = report.outputs.remove(0);
    assert_eq!(
        (output.data_type.as_str(), output.content_type.as_str()),
        ("entity/list", to)
    );
    String::from_utf8(output.content).unwrap()
}

/// Converts a text that stands in a file called `name`.
fn of_text(name: &str, text: impl AsRef<[u8]>, from: &str, to: &str) -> Result<String, RunFailure> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    let report = run(&path, from, to)?;
    Ok(String::from_utf8(report.outputs[0].content.clone()).unwrap())
}

/// Converts in memory.
fn in_memory(text: &[u8], from: Format, to: Format) -> Vec<u8> {
    let mut output = Vec::new();
    convert(|| Ok(text), from, to, &mut output).unwrap();
    output
}

#[test]
fn json_becomes_csv() {
    assert_eq!(
        converted("entities.json", JSON, CSV),
        "ID,href,color\n\
        paintA,http://example.com/paints/paintA,#8a2be2\n\
        paintB,http://example.com/paints/paintB,#e9322d\n"
    );
}

#[test]
fn json_becomes_lines() {
    assert_eq!(
        converted("entities.json", JSON, LINES),
        "{\"ID\":\"paintA\",\"href\":\"http://example.com/paints/paintA\",\"color\":\"#8a2be2\"}\n\
        {\"ID\":\"paintB\",\"href\":\"http://example.com/paints/paintB\",\"color\":\"#e9322d\"}\n"
    );
}

#[test]
fn csv_becomes_json() {
    assert_eq!(
        converted("entities.csv", CSV, JSON),
        "[\n\
        {\"ID\":\"paintA\",\"href\":\"http://example.com/paints/paintA\",\"color\":\"#8a2be2\"},\n\
        {\"ID\":\"paintB\",\"href\":\"http://example.com/paints/paintA\",\"color\":\"#e9322d\"}\n\
        ]\n"
    );
}

#[test]
fn lines_become_json_and_csv_even_if_they_call_themselves_json() {
    let json: Value =
        serde_json::from_slice(&std::fs::read(sample("entities.json")).unwrap()).unwrap();
    for content_type in [LINES, "application/x-lines+json; charset=utf-8", JSON] {
        let text = converted("entities-lines.json", content_type, JSON);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json);
        let csv = converted("entities-lines.json", content_type, CSV);
        assert_eq!(csv, converted("entities.json", JSON, CSV));
    }
}

/// Every digit of the points survives, to CSV as well.
#[test]
fn points_keep_their_digits() {
    let name = "cluster_scatter_visualization/entity_3d_90_points.json";
    let text = std::fs::read_to_string(sample(name)).unwrap();
    let points: Vec<Entity> = serde_json::from_str(&text).unwrap();
    assert_eq!(points.len(), 90);

    let json: Vec<Entity> = serde_json::from_str(&converted(name, JSON, JSON)).unwrap();
    assert_eq!(json, points);
    let csv = converted(name, JSON, CSV);
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("ID,href,dim0,dim1,dim2"));
    assert_eq!(
        lines.next(),
        Some("0,,9.807578825454954,-3.930249226501103,8.620396240369127")
    );
    for (line, point) in lines.zip(&points[1..]) {
        let cells: Vec<String> = point
            .values()
            .map(|value| value.to_string().trim_matches('"').to_owned())
            .collect();
        assert_eq!(line, cells.join(","));
        assert!(cells[2..].iter().all(|cell| text.contains(cell.as_str())));
    }
    assert_eq!(csv.lines().count(), 91);
}

#[test]
fn one_object_is_one_entity_and_its_id_comes_first() {
    assert_eq!(
        converted("histogram_visualization/counts_1.json", JSON, CSV),
        "ID,0\nd54fb5c0-4635-452f-94da-04f534116120,1\n"
    );
}

#[test]
fn all_samples_go_through_lines_and_back() {
    for folder in [
        "cluster_scatter_visualization",
        "confusion_matrix",
        "histogram_visualization",
    ] {
        for file in std::fs::read_dir(sample(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read(&path).unwrap();
            let json = in_memory(&text, Format::Json, Format::Json);
            let lines = in_memory(&text, Format::Json, Format::Lines);
            assert_eq!(
                in_memory(&lines, Format::Lines, Format::Json),
                json,
                "{path:?}"
            );
            let csv = in_memory(&text, Format::Json, Format::Csv);
            let from_csv = in_memory(&csv, Format::Csv, Format::Lines);
            assert_eq!(
                in_memory(&from_csv, Format::Lines, Format::Csv),
                csv,
                "{path:?}"
            );
        }
    }
}

#[test]
fn csv_cells_of_everything() {
    let json = r#"[{"b": null, "ID": "1", "n": 5, "x": 0.5, "t": true, "l": [1, "a,b"]},
        {"ID": "2", "o": {"k": "\"v\""}, "s": "line\nbreak"}]"#;
    assert_eq!(
        of_text("all.json", json, JSON, CSV).unwrap(),
        "ID,b,n,x,t,l,o,s\n\
        1,,5,0.5,true,\"[1,\"\"a,b\"\"]\",,\n\
        2,,,,,,\"{\"\"k\"\":\"\"\\\"\"v\\\"\"\"\"}\",\"line\nbreak\"\n"
    );
}

#[test]
fn empty_lists_stay_empty() {
    for (text, from) in [
        ("[]", JSON),
        (" [ \n ] ", JSON),
        ("", LINES),
        ("\n\n", LINES),
        ("", CSV),
    ] {
        assert_eq!(
            of_text("empty", text, from, JSON).unwrap(),
            "[]\n",
            "{text:?}"
        );
        assert_eq!(of_text("empty", text, from, LINES).unwrap(), "");
        assert_eq!(of_text("empty", text, from, CSV).unwrap(), "");
    }
    assert_eq!(of_text("empty", "ID,a\n", CSV, JSON).unwrap(), "[]\n");
    assert_eq!(of_text("empty", "a,ID\n", CSV, CSV).unwrap(), "ID,a\n");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let expected = "{\"ID\":\"1\"}\n";
    assert_eq!(
        of_text("a", "\u{feff}ID\n1\n", CSV, LINES).unwrap(),
        expected
    );
    assert_eq!(
        of_text("a", "\u{feff}[{\"ID\":\"1\"}]", JSON, LINES).unwrap(),
        expected
    );
    assert_eq!(
        of_text("a", "\u{feff}{\"ID\":\"1\"}\r\n", LINES, LINES).unwrap(),
        expected
    );
}

#[test]
fn the_output_is_named_after_the_input_and_the_log_says_what_was_done() {
    let report = run(&sample("entities.csv"), CSV, LINES).unwrap();
    assert_eq!(report.outputs[0].name, "entities.jsonl");
    assert_eq!(
        report.log,
        ["Converted 2 entities from text/csv to application/X-lines+json."]
    );
    let report = run(&sample("entities.json"), "text/plain", CSV).unwrap();
    assert_eq!(report.outputs[0].name, "entities.csv");
}

/// Each with the line at which it goes wrong, and in words.
#[test]
fn nonsense_is_refused_with_its_place() {
    let large = "123456789012345678901234567890";
    let cases: &[(&str, &[u8], &str)] = &[
        (JSON, b"", "entity 1 (line 1): the file is empty"),
        (
            JSON,
            b"ID,a\n1,2\n",
            "entity 1 (line 1): expected a JSON array of objects, found `I`",
        ),
        (
            JSON,
            b"\xff\xfe",
            "entity 1 (line 1): expected a JSON array of objects, found the byte 0xff",
        ),
        (
            JSON,
            b"[1, 2]",
            "entity 1 (line 1): expected a JSON object, found `1`",
        ),
        (
            JSON,
            b"[{},\n{},\n]",
            "entity 3 (line 3): expected a JSON object, found `]`",
        ),
        (
            JSON,
            b"[{}\n{}]",
            "entity 2 (line 2): expected `,` or `]`, found `{`",
        ),
        (
            JSON,
            b"[{}] x",
            "entity 2 (line 1): found `x` after the end of the array",
        ),
        (
            JSON,
            b"[{},\n",
            "entity 2 (line 2): the file ends in the middle of the array",
        ),
        (
            JSON,
            b"[{\"a\":\n\"}",
            "entity 1 (line 1): the file ends in the middle of it",
        ),
        (
            JSON,
            b"[{},\n{\"a\":\n[}]",
            "entity 2 (line 3): invalid JSON: expected value",
        ),
        (
            JSON,
            b"[{\"a\": NaN}]",
            "entity 1 (line 1): invalid JSON: expected value",
        ),
        (
            JSON,
            b"[{\"a\": \"\xff\"}]",
            "entity 1 (line 1): invalid JSON: invalid unicode code point",
        ),
        (
            LINES,
            b"{}\n[]\n",
            "entity 2 (line 2): the line is no JSON object",
        ),
        (
            LINES,
            b"{}\n\n{\"a\"\n",
            "entity 2 (line 3): invalid JSON: EOF while parsing an object",
        ),
        (
            LINES,
            b"{} {}\n",
            "entity 1 (line 1): invalid JSON: trailing characters",
        ),
        (
            CSV,
            b"ID,a\n1,2\n3\n",
            "entity 2 (line 3): the row has 1 cell, but there are 2 columns",
        ),
        (
            CSV,
            b"ID,a\n1,2,3\n",
            "entity 1 (line 2): the row has 3 cells, but there are 2 columns",
        ),
        (
            CSV,
            b"ID,a\n1,\xff\n",
            "entity 1 (line 2): the text in column 2 is not UTF-8",
        ),
        (
            CSV,
            b"ID,\xff\n",
            "the names of the columns (line 1): the text in column 2 is not UTF-8",
        ),
    ];
    for (from, text, expected) in cases {
        for to in [JSON, LINES, CSV] {
            let failure = of_text("nonsense", text, from, to).unwrap_err();
            assert_eq!(
                failure.message,
                *expected,
                "{:?}",
                String::from_utf8_lossy(text)
            );
        }
    }
    let failure = of_text("n", format!("[{{\"a\":\n[-{large}]}}]"), JSON, CSV).unwrap_err();
    assert_eq!(
        failure.message,
        format!(
            "entity 1 (line 1): the integer -{large} has more than 64 bits and would lose digits; \
            quote it"
        )
    );
    let exact = "[\n{\"a\":18446744073709551615,\"b\":1e+30,\"c\":\"123456789012345678901\"}\n]\n";
    assert_eq!(of_text("n", exact, JSON, JSON).unwrap(), exact);
}

#[test]
fn a_table_without_names_is_refused() {
    let failure = run(&sample("autoencoder.csv"), CSV, JSON).unwrap_err();
    assert_eq!(
        failure.message,
        "the names of the columns (line 1): `0` is there twice"
    );
    let failure = of_text("a", "[{}]", JSON, CSV).unwrap_err();
    assert_eq!(
        failure.message,
        "entity 1 cannot be written as CSV: there are no columns"
    );
}

#[test]
fn a_missing_quote_does_not_fill_the_memory() {
    let text = format!("ID,a\n1,\"{}", "x,y\n".repeat(5 << 20));
    let failure = of_text("a.csv", text, CSV, JSON).unwrap_err();
    assert_eq!(
        failure.message,
        "entity 1 (line 2): it is larger than 16777216 bytes; is a quote missing?"
    );
}

#[test]
fn unknown_formats_and_missing_files_are_refused() {
    let failure = run(&sample("circuit.qasm"), "text/x-qasm", CSV).unwrap_err();
    assert!(
        failure
            .message
            .starts_with("cannot tell the format of `circuit.qasm`"),
        "{failure}"
    );
    let failure = run(&sample("entities.csv"), CSV, "text/html").unwrap_err();
    assert_eq!(failure.message, "there is no output format `text/html`");
    let failure = run(&sample("no-such.csv"), CSV, JSON).unwrap_err();
    assert!(
        failure
            .message
            .starts_with("cannot read the input `no-such.csv`"),
        "{failure}"
    );
}

#[test]
fn a_cancelled_run_ends_as_cancelled() {
    let failure = Trial::new()
        .input("inputFileUrl", sample("entities.csv"), CSV)
        .parameter("outputFormat", JSON)
        .cancelled()
        .run(&EntityConvert)
        .unwrap_err();
    assert_eq!(failure.code, runner_sdk::failure::code::CANCELLED);
}

/// Any JSON value, a few levels deep.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".*", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn json_to_lines_and_back(
        entities in prop::collection::vec(prop::collection::vec((".*", value()), 0..5), 0..5)
    ) {
        let entities: Vec<Entity> =
            entities.into_iter().map(|members| members.into_iter().collect()).collect();
        let json = serde_json::to_vec_pretty(&entities).unwrap();
        let lines = in_memory(&json, Format::Json, Format::Lines);
        prop_assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), entities.len());
        let back = in_memory(&lines, Format::Lines, Format::Json);
        let back: Vec<Entity> = serde_json::from_slice(&back).unwrap();
        // As text, because order is not part of the equality of maps.
        prop_assert_eq!(serde_json::to_vec_pretty(&back).unwrap(), json);
    }

    #[test]
    fn csv_to_json_and_back(
        columns in prop::collection::hash_set("[^\u{0}]*", 0..4),
        rows in prop::collection::vec(prop::array::uniform4("(?s).*"), 1..6),
    ) {
        let mut columns: Vec<String> = columns.into_iter().filter(|name| name != "ID").collect();
        columns.insert(0, "ID".to_owned());
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(&columns).unwrap();
        for row in &rows {
            csv.write_record(row.iter().cycle().take(columns.len())).unwrap();
        }
        let csv = csv.into_inner().unwrap();
        let json = in_memory(&csv, Format::Csv, Format::Json);
        prop_assert_eq!(in_memory(&json, Format::Json, Format::Csv), csv);
    }

    /// Whatever the bytes are: an answer or an error, never a panic.
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(
        prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b','),
            Just(b'\n'), Just(b':'), Just(b'\\'), Just(b'1'), any::<u8>()], 0..64))
    {
        for from in Format::ALL {
            for to in Format::ALL {
                let _ = convert(|| Ok(bytes.as_slice()), from, to, Vec::new());
            }
        }
    }
}
