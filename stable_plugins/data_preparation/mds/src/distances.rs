//! The distances of all pairs, as a file has them.

use std::collections::HashMap;
use std::io::Read;

use nalgebra::DMatrix;
use serde::Deserialize;

/// The most entities: the time grows with the cube of their number, and memory with the square.
const MAX_ENTITIES: usize = 1_500;
/// How much two distances of one pair may differ, in parts of the larger one.
const SAME: f64 = 1e-9;

/// A symmetric matrix of distances, with zeros in its diagonal.
#[derive(Debug, Clone, PartialEq)]
pub struct Distances {
    ids: Vec<String>,
    matrix: DMatrix<f64>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "entity_1_ID")]
    one: String,
    #[serde(rename = "entity_2_ID")]
    other: String,
    distance: Option<f64>,
}

impl Distances {
    /// Reads a JSON list of pairs.
    ///
    /// # Errors
    /// It is none, or a pair is missing or impossible: where, and what was expected.
    pub fn read(source: impl Read) -> Result<Self, String> {
        let rows: Vec<Row> = serde_json::from_reader(source).map_err(|error| {
            format!(
                "expected a list of objects with entity_1_ID, entity_2_ID and distance: {error}"
            )
        })?;
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut ids = Vec::new();
        for id in rows.iter().flat_map(|row| [&row.one, &row.other]) {
            numbers.entry(id).or_insert_with(|| {
                ids.push(id.clone());
                ids.len() - 1
            });
        }
        if ids.len() > MAX_ENTITIES {
            return Err(format!(
                "there are {} entities, the limit is {MAX_ENTITIES}",
                ids.len()
            ));
        }
        let mut matrix = DMatrix::from_element(ids.len(), ids.len(), f64::NAN);
        matrix.fill_diagonal(0.0);
        for (at, row) in rows.iter().enumerate() {
            let pair = (numbers[row.one.as_str()], numbers[row.other.as_str()]);
            set(&mut matrix, pair, row)
                .map_err(|problem| format!("entry {}: {problem}", at + 1))?;
        }
        let missing = matrix.iter().position(|distance| distance.is_nan());
        if let Some(at) = missing {
            let (one, other) = (&ids[at % ids.len()], &ids[at / ids.len()]);
            return Err(format!(
                "the distance of {one:?} and {other:?} is not there"
            ));
        }
        Ok(Self { ids, matrix })
    }

    /// The entities, in the order in which they first come.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    pub(crate) fn matrix(&self) -> &DMatrix<f64> {
        &self.matrix
    }
}

fn set(matrix: &mut DMatrix<f64>, pair: (usize, usize), row: &Row) -> Result<(), String> {
    let Some(distance) = row
        .distance
        .filter(|distance| distance.is_finite() && *distance >= 0.0)
    else {
        let found = row
            .distance
            .map_or("null".to_owned(), |distance| distance.to_string());
        return Err(format!("expected a distance of 0 or more, found {found}"));
    };
    let known = matrix[pair];
    if (known - distance).abs() > SAME * known.max(distance) {
        return Err(match pair.0 == pair.1 {
            true => format!(
                "expected 0, the distance of {:?} to itself, found {distance}",
                row.one
            ),
            false => format!(
                "{:?} and {:?} have two distances, {known} and {distance}",
                row.one, row.other
            ),
        });
    }
    matrix[pair] = distance;
    matrix[(pair.1, pair.0)] = distance;
    Ok(())
}
