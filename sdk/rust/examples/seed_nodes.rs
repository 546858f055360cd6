//! The functions of the test graph of asyncio pipelines, as native nodes: what `flow/examples/nodes.rs` measures.

use runner_sdk::{Description, Failure, Node, Opening, Outcome, Plugin, Task, Value, each};

/// A plugin that is nothing but a node.
struct Function(&'static str, fn() -> Box<dyn Node>);

impl Plugin for Function {
    fn describe(&self) -> Description {
        Description::new(self.0, "1.0.0").node(Value::Null, Value::Null)
    }

    fn run(&self, _: &Task) -> Result<Outcome, Failure> {
        Ok("it is there for pipelines".into())
    }

    fn node(&self, _: &Opening) -> Result<Box<dyn Node>, Failure> {
        Ok((self.1)())
    }
}

runner_sdk::export!(
    Function("n1", || each(|text: String| Ok(text
        .chars()
        .rev()
        .collect::<String>()))),
    Function("n2", || each(|text: String| Ok(text.to_uppercase()))),
    Function("n3", || each(|pair: Vec<String>| {
        Ok(pair
            .iter()
            .map(|text| text.to_lowercase())
            .collect::<Vec<_>>())
    })),
);
