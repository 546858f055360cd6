//! A graph as JSON, Mermaid and DOT.

use std::fmt::Write;

use serde::Serialize;

use super::{Graph, Join, Port};

/// A graph for whoever draws it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Picture {
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All nodes.
    pub nodes: Vec<Point>,
    /// All edges.
    pub edges: Vec<Arrow>,
}

/// A node of a [`Picture`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// What it runs.
    #[serde(rename = "use")]
    pub uses: String,
    /// How it takes its items: `zip`, `any` or `key`.
    pub join: &'static str,
}

/// An edge of a [`Picture`].
#[derive(Debug, Clone, PartialEq, Serialize)]
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
            join: match node.join {
                Join::Zip => "zip",
                Join::Any => "any",
                Join::Key(_) => "key",
            },
        });
        let edges = self.edges.iter().map(|edge| Arrow {
            from: match edge.port {
                Port::Main => self.nodes[edge.from].name.clone(),
                Port::Errors => format!("{}.errors", self.nodes[edge.from].name),
            },
            to: self.nodes[edge.to].name.clone(),
            bound: edge.bound,
        });
        Picture {
            name: self.name.clone(),
            nodes: nodes.collect(),
            edges: edges.collect(),
        }
    }

    /// The graph in the language of Mermaid's flow charts.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (number, node) in self.nodes.iter().enumerate() {
            let label = format!("{}\n{}", node.name, node.uses);
            let _ = writeln!(text, "  n{number}[\"{}\"]", entities(&label));
        }
        for edge in &self.edges {
            let arrow = match edge.port {
                Port::Main => "-->",
                Port::Errors => "-.->|errors|",
            };
            let _ = writeln!(text, "  n{} {arrow} n{}", edge.from, edge.to);
        }
        text
    }

    /// The graph in the language of Graphviz.
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
        for edge in &self.edges {
            let style = match edge.port {
                Port::Main => "",
                Port::Errors => " [style=dashed, label=errors]",
            };
            let _ = writeln!(text, "  n{} -> n{}{style};", edge.from, edge.to);
        }
        text.push_str("}\n");
        text
    }
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
