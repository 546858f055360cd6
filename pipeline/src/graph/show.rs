//! A graph as JSON, Mermaid and DOT.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{Graph, Join, Port};

/// What follows the name of a node where an edge takes what failed there.
const ERRORS: &str = ".errors";

/// A graph for whoever draws it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its nodes.
    pub nodes: Vec<Point>,
    /// Its edges.
    pub edges: Vec<Arrow>,
    /// How many nodes and edges are left out, where there was no room for all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A node of a [`Picture`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// What it runs.
    #[serde(rename = "use")]
    pub uses: String,
    /// How it takes its items: `zip`, `any` or `key`.
    pub join: Cow<'static, str>,
}

/// An edge of a [`Picture`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arrow {
    /// Where it begins, such as `a` or `a.errors`.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// Items that it holds.
    pub bound: usize,
}

impl Graph {
    /// What can be drawn of it.
    pub fn picture(&self) -> Picture {
        let nodes = self.nodes.iter().map(|node| Point {
            name: node.name.clone(),
            uses: node.uses.clone(),
            join: Cow::Borrowed(match node.join {
                Join::Zip => "zip",
                Join::Any => "any",
                Join::Key(_) => "key",
            }),
        });
        let edges = self.edges.iter().map(|edge| Arrow {
            from: match edge.port {
                Port::Main => self.nodes[edge.from].name.clone(),
                Port::Errors => format!("{}{ERRORS}", self.nodes[edge.from].name),
            },
            to: self.nodes[edge.to].name.clone(),
            bound: edge.bound,
        });
        Picture {
            name: self.name.clone(),
            nodes: nodes.collect(),
            edges: edges.collect(),
            omitted: 0,
        }
    }

    /// The graph in the language of Mermaid's flow charts.
    pub fn mermaid(&self) -> String {
        self.picture().mermaid()
    }

    /// The graph in the language of Graphviz.
    pub fn dot(&self) -> String {
        self.picture().dot()
    }
}

impl Picture {
    /// The picture in the language of Mermaid's flow charts.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (number, node) in self.nodes.iter().enumerate() {
            let label = format!("{}\n{}", node.name, node.uses);
            let _ = writeln!(text, "  n{number}[\"{}\"]", entities(&label));
        }
        for line in self.lines() {
            let arrow = match line.is_of_errors {
                false => "-->",
                true => "-.->|errors|",
            };
            let _ = writeln!(text, "  n{} {arrow} n{}", line.from, line.to);
        }
        if self.omitted > 0 {
            let _ = writeln!(text, "  %% {}", self.left_out());
        }
        text
    }

    /// The picture in the language of Graphviz.
    pub fn dot(&self) -> String {
        let name = self.name.as_deref().unwrap_or("pipeline");
        let mut text = format!(
            "digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n",
            quoted(name)
        );
        for (number, node) in self.nodes.iter().enumerate() {
            let label = format!("{}\n{}", node.name, node.uses);
            let _ = writeln!(text, "  n{number} [label={}];", quoted(&label));
        }
        for line in self.lines() {
            let style = match line.is_of_errors {
                false => "",
                true => " [style=dashed, label=errors]",
            };
            let _ = writeln!(text, "  n{} -> n{}{style};", line.from, line.to);
        }
        if self.omitted > 0 {
            let _ = writeln!(text, "  // {}", self.left_out());
        }
        text.push_str("}\n");
        text
    }

    /// The edges between nodes that are there.
    fn lines(&self) -> impl Iterator<Item = Line> {
        let names = self.nodes.iter().map(|node| node.name.as_str());
        let numbers: HashMap<&str, usize> = names.zip(0..).collect();
        self.edges.iter().filter_map(move |edge| {
            // A name has no dot.
            let (from, is_of_errors) = match edge.from.strip_suffix(ERRORS) {
                Some(from) => (from, true),
                None => (edge.from.as_str(), false),
            };
            Some(Line {
                from: *numbers.get(from)?,
                to: *numbers.get(edge.to.as_str())?,
                is_of_errors,
            })
        })
    }

    fn left_out(&self) -> String {
        format!("{} nodes and edges are left out", self.omitted)
    }
}

/// An edge by the numbers of its nodes.
struct Line {
    from: usize,
    to: usize,
    is_of_errors: bool,
}

/// Text for Mermaid, in which quotes and brackets would end a label.
fn entities(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("<br>"),
            '"' | '<' | '>' | '&' | '#' | '`' => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Text as a string of DOT.
fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}
