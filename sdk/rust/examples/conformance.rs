//! The plugin that conformance is checked with, in Rust: it does as its parameter `act` says.

use std::time::{Duration, Instant};

use runner_sdk::{
    Description, Failure, Made, Map, Node, Opening, Outcome, Plugin, Task, Text, Value, json,
};

struct Conformance;

impl Plugin for Conformance {
    fn describe(&self) -> Description {
        Description::new("conformance-rust", "1.0.0")
            .description("Does as it is told.")
            .tags(["conformance"])
            .parameter(Text::new("act"))
            .parameter(Text::new("text").default(""))
            .example("act", "echo")
            .example("text", "hello")
    }

    fn run(&self, task: &Task) -> Result<Outcome, Failure> {
        let act: String = task.parameter("act")?;
        let text: String = task.parameter("text")?;
        match act.as_str() {
            "echo" => return Ok(text.into()),
            "about" => {
                let module = task.module();
                let about = json!({"name": module.name, "uuid": module.uuid, "args": module.args});
                return Ok(about.to_string().into());
            }
            "fail" => return Err(Failure::new(text)),
            "output" => task.output("out.txt", text, "custom/out", "text/plain")?,
            "print" => {
                println!("{text}");
                return Ok("printed".into());
            }
            "progress" => {
                task.log("half");
                task.progress(50.0);
                task.link("page", "page")?;
                return Ok("told".into());
            }
            "data" => return Outcome::from(()).keep(task.data::<Value>()?),
            "fetch" => drop(task.fetch(&text)?),
            "sleep" => {
                let end = Instant::now() + Duration::from_secs_f64(text.parse().unwrap_or(0.0));
                while Instant::now() < end {
                    task.check_cancelled()?;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            other => return Err(Failure::new(format!("there is no act {other:?}"))),
        }
        Ok(().into())
    }
}

/// Gives items back, or does as they say.
struct ConformanceNode;

impl Plugin for ConformanceNode {
    fn describe(&self) -> Description {
        Description::new("conformance-node", "1.0.0")
            .description("Gives items back, or does as they say.")
            .tags(["conformance"])
            .node(Value::Null, Value::Null)
    }

    fn run(&self, _: &Task) -> Result<Outcome, Failure> {
        Ok("it is there for pipelines".into())
    }

    fn node(&self, _: &Opening) -> Result<Box<dyn Node>, Failure> {
        Ok(Box::new(Self))
    }
}

impl Node for ConformanceNode {
    fn item(
        &mut self,
        item: Value,
        _: Option<&Map<String, Value>>,
        made: &mut Made,
    ) -> Result<(), Failure> {
        if let Some(text) = item["fail"].as_str() {
            return Err(Failure::new(text));
        }
        match item["several"].as_array() {
            Some(several) => several.iter().try_for_each(|value| made.value(value)),
            None if item.is_null() => Ok(()),
            None => made.value(&item),
        }
    }
}

runner_sdk::export!(Conformance, ConformanceNode);
