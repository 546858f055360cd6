//! The table of the deviations that are meant.

use std::collections::BTreeSet;
use std::fmt;

use runner_tests::diff::Difference;
use runner_tests::repository;

/// A difference in one transcript.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deviation {
    /// Its number.
    pub(super) transcript: String,
    /// What differs.
    pub(super) difference: Difference,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            place,
            theirs,
            ours,
        } = &self.difference;
        write!(
            f,
            "| {} | `{place}` | `{theirs}` | `{ours}` |",
            self.transcript
        )
    }
}

/// What the table lists, one entry per transcript.
pub(super) fn listed() -> BTreeSet<Deviation> {
    let path = repository("tests/transcripts/DEVIATIONS.md");
    let text = std::fs::read_to_string(&path).expect("the table lies beside the transcripts");
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.flat_map(entries).collect()
}

fn entries(row: &str) -> Vec<Deviation> {
    let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
    let [transcripts, place, theirs, ours, why] = cells[..] else {
        panic!("not five cells: {row}");
    };
    assert!(!why.is_empty(), "no reason: {row}");
    let plain = |cell: &str| cell.trim_matches('`').to_owned();
    let difference = Difference {
        place: plain(place),
        theirs: plain(theirs),
        ours: plain(ours),
    };
    let entry = |transcript: &str| Deviation {
        transcript: transcript.to_owned(),
        difference: difference.clone(),
    };
    transcripts.split_whitespace().map(entry).collect()
}
