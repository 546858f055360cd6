//! The demo plugin: puts out its input with one word replaced.

mod python;

use runner_sdk::{DataOutput, Description, Failure, Outcome, Plugin, Task, Text};

/// The plugin `hello-world`.
pub struct HelloWorld;

impl Plugin for HelloWorld {
    fn describe(&self) -> Description {
        Description::new("hello-world", "v0.2.1")
            .description("Tests the connection of all components by printing some text.")
            .help("This is an example help text with basic **Markdown** support.")
            .tags(["hello-world", "demo"])
            .parameter(
                Text::new("inputStr")
                    .label("Input String")
                    .description("A simple string input.")
                    .multiline(),
            )
            .example("inputStr", "Sample input string.")
            .output(DataOutput::new("custom/hello-world-output", ["text/plain"]))
    }

    fn run(&self, task: &Task) -> Result<Outcome, Failure> {
        let input: String = task.parameter("inputStr")?;
        if input.is_empty() {
            return Ok("Empty input string, no output could be generated!".into());
        }
        let output = input.replace("input", "output");
        task.output(
            "out.txt",
            &output,
            "custom/hello-world-output",
            "text/plain",
        )?;
        Ok(format!("result: {}", python::repr(&output)).into())
    }
}

runner_sdk::export!(HelloWorld);

#[cfg(test)]
mod tests {
    use runner_sdk::json;
    use runner_sdk::testing::Trial;

    use super::*;

    #[test]
    fn describes_itself_as_in_the_contract() {
        assert_eq!(
            HelloWorld.describe().to_json(),
            json!({
                "name": "hello-world",
                "version": "v0.2.1",
                "description": "Tests the connection of all components by printing some text.",
                "help": "This is an example help text with basic **Markdown** support.",
                "tags": ["hello-world", "demo"],
                "parameters": {
                    "type": "object",
                    "properties": {"inputStr": {
                        "type": "string",
                        "title": "Input String",
                        "description": "A simple string input.",
                        "x-multiline": true,
                    }},
                    "required": ["inputStr"],
                },
                "example": {"inputStr": "Sample input string."},
                "dataOutput": [{
                    "dataType": "custom/hello-world-output",
                    "contentType": ["text/plain"],
                    "required": true,
                }],
                "links": [],
                "steps": [],
            })
        );
    }

    #[test]
    fn replaces_the_word() {
        let report = Trial::new()
            .parameter("inputStr", "my input")
            .run(&HelloWorld)
            .unwrap();
        assert_eq!(report.log, ["result: 'my output'"]);
        let [output] = report.outputs.as_slice() else {
            panic!("{:?}", report.outputs)
        };
        assert_eq!(output.content, b"my output");
        assert_eq!(output.name, "out.txt");
        assert_eq!(output.data_type, "custom/hello-world-output");
        assert_eq!(output.content_type, "text/plain");
    }

    #[test]
    fn keeps_unicode_and_line_breaks() {
        let input = "ünï'cöde \"input\" 日本\n2nd";
        let report = Trial::new()
            .parameter("inputStr", input)
            .run(&HelloWorld)
            .unwrap();
        assert_eq!(
            report.outputs[0].content,
            "ünï'cöde \"output\" 日本\n2nd".as_bytes()
        );
        assert_eq!(report.log, [r#"result: 'ünï\'cöde "output" 日本\n2nd'"#]);
    }

    #[test]
    fn makes_nothing_of_nothing() {
        let report = Trial::new()
            .parameter("inputStr", "")
            .run(&HelloWorld)
            .unwrap();
        assert_eq!(
            report.log,
            ["Empty input string, no output could be generated!"]
        );
        assert!(report.outputs.is_empty());
    }

    #[test]
    fn says_what_is_missing() {
        let failure = Trial::new().run(&HelloWorld).unwrap_err();
        assert_eq!(failure.message, "the parameter `inputStr` is missing");
        let failure = Trial::new()
            .parameter("inputStr", 5)
            .run(&HelloWorld)
            .unwrap_err();
        assert!(
            failure
                .message
                .starts_with("the parameter `inputStr` does not fit"),
            "{failure}"
        );
    }
}
