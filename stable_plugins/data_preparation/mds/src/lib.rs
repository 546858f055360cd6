//! Places entities as points whose distances are like the given ones.
//!
//! Classical multidimensional scaling (Torgerson scaling): W. S. Torgerson, Multidimensional scaling: I. Theory and
//! method, Psychometrika 17 (1952); as in T. F. Cox, M. A. A. Cox, Multidimensional Scaling (2001), section 2.2.

mod distances;
mod scaling;

use runner_sdk::{Data, DataOutput, Description, Failure, Integer, Outcome, Plugin, Task};
use serde_json::{Map, Value, json};

pub use distances::Distances;
pub use scaling::{Embedding, embed};

/// The most dimensions of a point.
const MAX_DIMENSIONS: usize = 10;
const JSON: &str = "application/json";

const HELP: &str = "\
Gives each entity a point, so that the distances of the points are as near as they can be to the given ones in a few \
dimensions: *classical multidimensional scaling*. Of the squared distances *D*, doubly centred, B = -½ J D J with \
J = 1 - 1/n, the eigenvectors of the largest eigenvalues are the coordinates, each scaled by the square root of its \
eigenvalue. Where the distances are those of points in that many dimensions, they are met exactly.

The log says which part of the sum of all positive eigenvalues the dimensions have, and whether there are negative \
ones: then the distances are not those of points in any number of dimensions, and the picture is only near to them. \
Each axis points to where the coordinate that is largest in size is positive.

The distances are a list of objects with `entity_1_ID`, `entity_2_ID` and `distance`. Each pair of entities has to \
be there, in one order or both; one of an entity with itself may be left out.";

/// The plugin `mds`.
pub struct Mds;

impl Plugin for Mds {
    fn describe(&self) -> Description {
        Description::new("mds", "1.0.0")
            .title("Multidimensional scaling")
            .description("Places entities as points by their distances.")
            .help(HELP)
            .tags([
                "preprocessing",
                "embedding",
                "feature-engineering",
                "distance-calculation",
            ])
            .parameter(
                Data::new("entityDistancesUrl", "custom/entity-distances", [JSON])
                    .label("Entity distances URL")
                    .description("URL of a JSON file with the distances of all pairs of entities."),
            )
            .parameter(
                Integer::new("dimensions")
                    .label("Dimensions")
                    .description("How many coordinates a point has.")
                    .minimum(1)
                    .maximum(MAX_DIMENSIONS)
                    .default(2),
            )
            .output(DataOutput::new("entity/vector", [JSON]))
    }

    fn run(&self, task: &Task) -> Result<Outcome, Failure> {
        let input = task.input("entityDistancesUrl")?;
        let dimensions: usize = task.parameter("dimensions")?;
        let distances = Distances::read(input.open()?)
            .map_err(|problem| Failure::new(format!("{}: {problem}", input.name)))?;
        task.check_cancelled()?;
        let embedding = embed(&distances, dimensions);
        let points = serde_json::to_vec(&entities(&distances, &embedding))
            .map_err(|error| Failure::new(error.to_string()))?;
        task.output("points.json", points, "entity/vector", JSON)?;
        Ok(said(&distances, &embedding).into())
    }
}

runner_sdk::export!(Mds);

/// The points as QHAna has them: `dim0`, `dim1`, ….
fn entities(distances: &Distances, embedding: &Embedding) -> Vec<Value> {
    let point = |(id, coordinates): (&String, &Vec<f64>)| {
        let mut entity = Map::new();
        entity.insert("ID".to_owned(), json!(id));
        entity.insert("href".to_owned(), json!(""));
        for (at, coordinate) in coordinates.iter().enumerate() {
            entity.insert(format!("dim{at}"), json!(coordinate));
        }
        Value::Object(entity)
    };
    distances
        .ids()
        .iter()
        .zip(&embedding.points)
        .map(point)
        .collect()
}

fn said(distances: &Distances, embedding: &Embedding) -> String {
    let mut text = format!(
        "Placed {} entities in {} dimensions, which have {:.1} % of the sum of the positive eigenvalues.",
        distances.ids().len(),
        embedding.points.first().map_or(0, Vec::len),
        100.0 * embedding.share
    );
    if embedding.negative > 0.0 {
        text.push_str(&format!(
            " The distances are not those of points: the negative eigenvalues are {:.1} % of that sum.",
            100.0 * embedding.negative
        ));
    }
    text
}
