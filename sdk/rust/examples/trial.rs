//! A library with two plugins: one that does everything that a plugin can do, well or badly, and
//! one with a step. The integration test loads it.

use std::io::Write;
use std::time::Duration;

use runner_sdk::{
    Choice, Description, Failure, Outcome, Plugin, StepDescription, Task, Text, json,
};

/// Does what its parameter says.
struct Deeds;

impl Plugin for Deeds {
    fn describe(&self) -> Description {
        Description::new("deeds", "1.0.0").parameter(Choice::new(
            "deed",
            [
                "panic", "fail", "wait", "fetch", "say", "forget", "flood", "escape", "hoard",
            ],
        ))
    }

    fn run(&self, task: &Task) -> Result<Outcome, Failure> {
        match task.parameter::<String>("deed")?.as_str() {
            "panic" => panic!("a deliberate panic"),
            "fail" => {
                std::fs::read("/no/such/file")?;
            }
            "wait" => {
                task.log("waiting");
                while !task.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            "fetch" => {
                let input = task.fetch("data:,hello")?;
                return Ok(format!("{} {}", input.name, input.size).into());
            }
            "say" => {
                task.log("from the plugin");
                task.progress(50.0);
                task.progress_of(1.5, 3.0, "steps");
                task.link("docs", "https://example.org/")?;
                std::thread::scope(|scope| scope.spawn(|| task.log("from a thread")).join())
                    .map_err(|_| Failure::new("the thread panicked"))?;
            }
            "forget" => {
                task.create_output("lost.txt", "custom/x", "text/plain")?
                    .write_all(b"lost")?;
            }
            "flood" => task.log("x".repeat(3 << 20)),
            "escape" => {
                let thread = std::thread::spawn(|| panic!("in a thread"));
                return Ok(format!("joined: {}", thread.join().is_ok()).into());
            }
            "hoard" => return Outcome::default().keep("x".repeat(2 << 20)),
            other => return Err(Failure::new(format!("no such deed: {other}"))),
        }
        Ok(().into())
    }
}

/// Asks for a name, then greets.
struct Greeter;

impl Plugin for Greeter {
    fn describe(&self) -> Description {
        let step = StepDescription::new("name")
            .title("Who?")
            .parameter(Text::new("name"));
        Description::new("greeter", "0.1").step(step)
    }

    fn run(&self, task: &Task) -> Result<Outcome, Failure> {
        task.step("name", json!({"name": "you"}))?;
        Outcome::from("asked").keep(json!({"greeting": "Hello"}))
    }

    fn step(&self, task: &Task, _step: &str) -> Result<Outcome, Failure> {
        let data: runner_sdk::Value = task.data()?.unwrap_or_default();
        let name: String = task.parameter("name")?;
        Ok(format!("{}, {name}!", data["greeting"].as_str().unwrap_or_default()).into())
    }
}

runner_sdk::export!(Deeds, Greeter);
