//! Shows that memory does not grow with the file: converts a generated file in all directions and
//! prints time and peak memory.
//!
//! `cargo run --release -p entity-convert --example memory -- 50` (megabytes)

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use entity_convert::convert;
use runner_sdk::entities::Format;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let megabytes: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(50), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let path = |format: Format| {
        directory
            .path()
            .join(format!("entities.{}", format.extension()))
    };

    let mut file = BufWriter::new(File::create(path(Format::Json))?);
    let (mut bytes, mut rows) = (0, 0_u64);
    while bytes < megabytes << 20 {
        let start = if rows == 0 { "[" } else { ",\n" };
        let row = format!(
            "{start}{{\"ID\": \"{rows}\", \"href\": \"\", \"x\": {}, \"tags\": [1, \"a\\\"b\"]}}",
            rows as f64 / 7.0
        );
        file.write_all(row.as_bytes())?;
        bytes += row.len() as u64;
        rows += 1;
    }
    file.write_all(b"]")?;
    file.flush()?;
    println!(
        "{rows} entities, {} MB; peak memory {}",
        bytes >> 20,
        peak_memory()
    );

    for (from, to) in [
        (Format::Json, Format::Lines),
        (Format::Lines, Format::Csv),
        (Format::Csv, Format::Json),
        (Format::Json, Format::Csv),
    ] {
        let start = Instant::now();
        let output = BufWriter::new(File::create(path(to))?);
        let count = convert(|| Ok(File::open(path(from))?), from, to, output)
            .map_err(|failure| failure.message().to_owned())?;
        assert_eq!(count, rows);
        println!(
            "{from:?} -> {to:?}: {:.2?}; peak memory {}",
            start.elapsed(),
            peak_memory()
        );
    }
    Ok(())
}

/// The most memory that this process ever had, as Linux says it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
}
