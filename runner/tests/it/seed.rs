//! The first example of the asyncio library that pipelines began with: what it says that it makes.

use crate::support::Desk;

/// Texts, their reversal after a while that differs, and both together.
const EXAMPLE: &str = r#"
import asyncio, json, random, uuid
from runner import Pipeline

class Functions:
    made = []

    @classmethod
    async def texts(cls):
        for _ in range(20):
            text = str(uuid.uuid4())
            cls.made.append(text)
            yield text
            await asyncio.sleep(0)

    @classmethod
    async def reverse(cls, item):
        await asyncio.sleep(random.random() / 20)
        return item[::-1]

    @classmethod
    async def show(cls, pair):
        print("output~> ", tuple(pair))

GRAPH = {
    "nodes": {
        "inp": {"coro": Functions.texts},
        "rev": {"coro": Functions.reverse},
        "out": {"coro": Functions.show},
    },
    "graph": {"inp": ("rev", "out"), "rev": ("out",), "out": None},
}
run = Pipeline(GRAPH).run()
assert run.values() == []
print(json.dumps(Functions.made))
"#;

#[test]
fn the_example_of_the_asyncio_library_pairs_each_text_with_its_own_reversal() {
    let desk = Desk::new();
    desk.write("example.py", EXAMPLE);
    let sdk = desk.run(["plugin", "sdk"]).ok().out;
    let program = desk
        .other("python3", ["example.py"])
        .env("PYTHONPATH", sdk.trim())
        .env("RUNNER", env!("CARGO_BIN_EXE_runner"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&program.stdout).into_owned();
    assert!(program.status.success(), "{program:?}");
    let mut lines: Vec<&str> = said.lines().collect();
    let made: Vec<String> = serde_json::from_str(lines.pop().unwrap()).unwrap();
    assert_eq!(made.len(), 20, "{said}");
    let expected: Vec<String> = made
        .iter()
        .map(|text| {
            let reversed: String = text.chars().rev().collect();
            format!("output~>  ('{text}', '{reversed}')")
        })
        .collect();
    assert_eq!(lines, expected);
}
