//! A document becomes a graph.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::error::{GraphError, GraphProblem, error, expected};
use super::fields::Fields;
use super::order::order;
use super::{
    DEFAULT_BOUND, EdgeSpec, Graph, Join, MAX_BOUND, MAX_EDGES, MAX_NODES, NodeSpec, OnError,
    Policy, Port, Retry,
};

/// Characters of a node's name at most.
const MAX_NAME: usize = 100;
/// Calls of one node at a time at most.
const MAX_CONCURRENCY: u64 = 1024;
/// Items in a call at most.
const MAX_BATCH: u64 = 10_000;
/// Attempts at most.
const MAX_ATTEMPTS: u64 = 100;
/// Results that a node remembers at most, and if it says only that it does.
const MAX_CACHE: u64 = 1_000_000;
const DEFAULT_CACHE: usize = 10_000;

const PIPELINE: [&str; 8] = [
    "name",
    "version",
    "title",
    "description",
    "parameters",
    "nodes",
    "edges",
    "graph",
];
const NODE: [&str; 16] = [
    "use",
    "with",
    "from",
    "join",
    "order",
    "errors",
    "concurrency",
    "batch",
    "retry",
    "timeout",
    "rate",
    "when",
    "cache",
    "coro",
    "args",
    "properties",
];

pub(super) fn read(json: &Value) -> Result<Graph, GraphError> {
    let fields = Fields::of(String::new(), json, &PIPELINE).map_err(|e| match e.problem {
        GraphProblem::Expected(_) => GraphError {
            place: "nodes".to_owned(),
            problem: GraphProblem::Expected("an object of nodes".to_owned()),
        },
        _ => e,
    })?;
    let Some(Value::Object(nodes)) = fields.get("nodes") else {
        return expected("nodes", "an object of nodes");
    };
    match nodes.len() {
        0 => return error("nodes", GraphProblem::Empty),
        count if count > MAX_NODES => {
            let limit = MAX_NODES;
            return error("nodes", GraphProblem::TooMany { count, limit });
        }
        _ => {}
    }
    let mut building = Building::default();
    for (name, node) in nodes {
        let number = building.nodes.len();
        building.nodes.push(read_node(name, node)?);
        building.names.insert(name, number);
    }
    for (number, (name, node)) in nodes.iter().enumerate() {
        if let Some(from) = node.get("from") {
            building.read_from(&format!("nodes.{name}.from"), number, from)?;
        }
    }
    let has_successors = fields.has("graph");
    match (fields.get("edges"), fields.get("graph")) {
        (Some(_), Some(_)) => {
            return expected("graph", "either \"edges\" or \"graph\", not both");
        }
        (Some(Value::Array(list)), None) => {
            for (i, edge) in list.iter().enumerate() {
                building.read_edge(&format!("edges[{i}]"), edge)?;
            }
        }
        (Some(_), None) => return expected("edges", "a list of edges"),
        (None, Some(Value::Object(all))) => building.read_successors(all)?,
        (None, Some(_)) => return expected("graph", "an object of lists of successors"),
        (None, None) => {}
    }
    let Building {
        mut nodes, edges, ..
    } = building;
    settle_errors(&mut nodes, &edges)?;
    if nodes.len() > 1 {
        let used: HashSet<usize> = edges.iter().flat_map(|edge| [edge.from, edge.to]).collect();
        if let Some(alone) = (0..nodes.len()).find(|number| !used.contains(number)) {
            let problem = GraphProblem::Unused("it is connected to nothing");
            return error(nodes[alone].place(), problem);
        }
    }
    let pairs = edges.iter().map(|edge| (edge.from, edge.to));
    let order = match order(nodes.len(), pairs) {
        Ok(order) => order,
        Err(cycle) => {
            let names: Vec<_> = cycle.into_iter().map(|n| nodes[n].name.clone()).collect();
            let place = names
                .first()
                .map_or_else(String::new, |name| format!("nodes.{name}"));
            return error(place, GraphProblem::Cycle(names));
        }
    };
    let parameters = match fields.get("parameters") {
        None => json!({"type": "object", "properties": {}}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return expected("parameters", "a JSON Schema of type object"),
    };
    Ok(Graph {
        name: fields.text("name")?,
        version: fields.text("version")?,
        title: fields.text("title")?,
        description: fields.text("description")?,
        parameters,
        nodes,
        edges,
        order,
        leaves_are_outputs: has_successors,
    })
}

/// Nodes with an edge for errors use it; those that name one have it.
fn settle_errors(nodes: &mut [NodeSpec], edges: &[EdgeSpec]) -> Result<(), GraphError> {
    let failing = edges.iter().filter(|edge| edge.port == Port::Errors);
    let failing: HashSet<usize> = failing.map(|edge| edge.from).collect();
    for (number, node) in nodes.iter_mut().enumerate() {
        let has_edge = failing.contains(&number);
        match (node.on_error, has_edge) {
            (OnError::Fail, true) => node.on_error = OnError::Edge,
            (OnError::Skip, true) => {
                let place = format!("{}.errors", node.place());
                return expected(place, "\"edge\", since there is an edge for errors");
            }
            (OnError::Edge, false) => {
                let text = format!("an edge from {:?}", format!("{}.errors", node.name));
                return expected(format!("{}.errors", node.place()), &text);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a node of either shape.
fn read_node(name: &str, node: &Value) -> Result<NodeSpec, GraphError> {
    let place = format!("nodes.{name}");
    let is_name = |c: char| !c.is_control() && c != '.';
    if name.is_empty() || name.chars().count() > MAX_NAME || !name.chars().all(is_name) {
        return expected(place, "a name of 1 to 100 characters, without dots");
    }
    let fields = Fields::of(place.clone(), node, &NODE)?;
    let uses = match (fields.text("use")?, fields.text("coro")?) {
        (Some(uses), None) | (None, Some(uses)) => uses,
        _ => return expected(place, "\"use\" (or \"coro\"), the name of what it runs"),
    };
    let join = read_join(&fields, &uses)?;
    let with = match fields.get("with") {
        Some(with) => with.clone(),
        // The seed's list of arguments: one is the argument that matters.
        None => match fields.get("args") {
            None => Value::Null,
            Some(Value::Array(args)) if args.is_empty() => Value::Null,
            Some(Value::Array(args)) if args.len() == 1 => args[0].clone(),
            Some(args) => args.clone(),
        },
    };
    let on_error = match fields.text("errors")?.as_deref() {
        None | Some("fail") => OnError::Fail,
        Some("skip") => OnError::Skip,
        Some("edge") => OnError::Edge,
        Some(_) => return expected(fields.at("errors"), "\"fail\", \"skip\" or \"edge\""),
    };
    Ok(NodeSpec {
        name: name.to_owned(),
        uses,
        with,
        join,
        is_ordered: fields.flag("order")?.unwrap_or(true),
        on_error,
        policy: read_policy(&fields)?,
    })
}

fn read_join(fields: &Fields<'_>, uses: &str) -> Result<Join, GraphError> {
    let aggregates = match fields.get("properties") {
        None => None,
        Some(Value::Object(properties)) => match properties.get("aggregate_inputs") {
            None => None,
            Some(Value::Bool(is)) => Some(*is),
            Some(_) => {
                let place = fields.at("properties.aggregate_inputs");
                return expected(place, "true or false");
            }
        },
        Some(_) => return expected(fields.at("properties"), "an object"),
    };
    match fields.get("join") {
        None if aggregates == Some(false) || uses == "merge" => Ok(Join::Any),
        None => Ok(Join::Zip),
        Some(Value::String(join)) if join == "zip" => Ok(Join::Zip),
        Some(Value::String(join)) if join == "any" => Ok(Join::Any),
        Some(key @ Value::Object(_)) => {
            match Fields::of(fields.at("join"), key, &["key"])?.text("key")? {
                Some(expression) => Ok(Join::Key(expression)),
                None => expected(fields.at("join.key"), "an expression"),
            }
        }
        Some(_) => expected(
            fields.at("join"),
            "\"zip\", \"any\" or {\"key\": EXPRESSION}",
        ),
    }
}

fn read_policy(fields: &Fields<'_>) -> Result<Policy, GraphError> {
    let retry = match fields.get("retry") {
        None => Retry::default(),
        Some(Value::Number(_)) => Retry {
            attempts: attempts(fields.count("retry", MAX_ATTEMPTS)?),
            ..Retry::default()
        },
        Some(retry) => {
            let known = ["attempts", "backoff", "factor", "most"];
            let retry = Fields::of(fields.at("retry"), retry, &known)?;
            let plain = Retry::default();
            Retry {
                attempts: attempts(retry.count("attempts", MAX_ATTEMPTS)?),
                backoff: retry.seconds("backoff")?.unwrap_or(plain.backoff),
                factor: retry.number("factor")?.unwrap_or(plain.factor).max(1.0),
                most: retry.seconds("most")?.unwrap_or(plain.most),
            }
        }
    };
    Ok(Policy {
        concurrency: fields.count("concurrency", MAX_CONCURRENCY)?.unwrap_or(1),
        batch: fields.count("batch", MAX_BATCH)?,
        retry,
        timeout: fields.seconds("timeout")?,
        rate: fields.number("rate")?,
        when: fields.text("when")?,
        cache: match fields.get("cache") {
            Some(Value::Bool(is)) => usize::from(*is) * DEFAULT_CACHE,
            _ => fields.count("cache", MAX_CACHE)?.unwrap_or(0),
        },
    })
}

fn attempts(count: Option<usize>) -> u32 {
    count
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(1)
}

/// A graph that is being read.
#[derive(Default)]
struct Building<'a> {
    nodes: Vec<NodeSpec>,
    names: HashMap<&'a str, usize>,
    edges: Vec<EdgeSpec>,
    seen: HashSet<(usize, Port, usize)>,
}

impl Building<'_> {
    fn node(&self, place: &str, name: &str) -> Result<usize, GraphError> {
        match self.names.get(name) {
            Some(number) => Ok(*number),
            None => error(place, GraphProblem::UnknownNode(name.to_owned())),
        }
    }

    /// Where an edge begins: `NODE` or `NODE.errors`.
    fn beginning(&self, place: &str, name: &str) -> Result<(usize, Port), GraphError> {
        match name.strip_suffix(".errors") {
            Some(node) => Ok((self.node(place, node)?, Port::Errors)),
            None => Ok((self.node(place, name)?, Port::Main)),
        }
    }

    fn connect(
        &mut self,
        place: &str,
        (from, port): (usize, Port),
        to: usize,
        bound: usize,
    ) -> Result<(), GraphError> {
        if !self.seen.insert((from, port, to)) {
            let (from, to) = (&self.nodes[from].name, &self.nodes[to].name);
            return error(
                place,
                GraphProblem::DuplicateEdge(format!("{from} -> {to}")),
            );
        }
        let count = self.seen.len();
        if count > MAX_EDGES {
            let limit = MAX_EDGES;
            return error(place, GraphProblem::TooMany { count, limit });
        }
        self.edges.push(EdgeSpec {
            from,
            port,
            to,
            bound,
        });
        Ok(())
    }

    /// `from` of a node: a name, `{node, bound}`, or a list of these.
    fn read_from(&mut self, place: &str, to: usize, from: &Value) -> Result<(), GraphError> {
        match from {
            Value::Null => Ok(()),
            Value::String(name) => {
                let from = self.beginning(place, name)?;
                self.connect(place, from, to, DEFAULT_BOUND)
            }
            Value::Array(all) => all.iter().enumerate().try_for_each(|(i, one)| {
                let place = format!("{place}[{i}]");
                match one {
                    Value::Array(_) => expected(place, "the name of a node"),
                    one => self.read_from(&place, to, one),
                }
            }),
            edge => {
                let edge = Fields::of(place.to_owned(), edge, &["node", "bound"])?;
                let Some(name) = edge.text("node")? else {
                    return expected(place, "\"node\", the name of a node");
                };
                let bound = edge.count("bound", MAX_BOUND)?.unwrap_or(DEFAULT_BOUND);
                let from = self.beginning(place, &name)?;
                self.connect(place, from, to, bound)
            }
        }
    }

    /// An edge of the list: `[from, to]` or `{from, to, bound}`.
    fn read_edge(&mut self, place: &str, edge: &Value) -> Result<(), GraphError> {
        let wanted = "[from, to] or {\"from\", \"to\", \"bound\"}";
        let (from, to, bound) = match edge {
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(from), Value::String(to)] => {
                    (from.clone(), to.clone(), DEFAULT_BOUND)
                }
                [_, _] => return expected(place, "two names of nodes"),
                _ => return expected(place, wanted),
            },
            Value::Object(_) => {
                let edge = Fields::of(place.to_owned(), edge, &["from", "to", "bound"])?;
                let (Some(from), Some(to)) = (edge.text("from")?, edge.text("to")?) else {
                    return expected(place, "two names of nodes");
                };
                let bound = edge.count("bound", MAX_BOUND)?.unwrap_or(DEFAULT_BOUND);
                (from, to, bound)
            }
            _ => return expected(place, wanted),
        };
        let (from, to) = (self.beginning(place, &from)?, self.node(place, &to)?);
        self.connect(place, from, to, bound)
    }

    /// The edges of the seed's shape: name to successors or null.
    fn read_successors(&mut self, all: &Map<String, Value>) -> Result<(), GraphError> {
        for (name, successors) in all {
            let place = format!("graph.{name}");
            let from = self.beginning(&place, name)?;
            let successors = match successors {
                Value::Null => continue,
                Value::Array(successors) => successors,
                _ => return expected(place, "a list of successors, or null"),
            };
            for (i, to) in successors.iter().enumerate() {
                let place = format!("{place}[{i}]");
                let Value::String(to) = to else {
                    return expected(place, "the name of a node");
                };
                let to = self.node(&place, to)?;
                self.connect(&place, from, to, DEFAULT_BOUND)?;
            }
        }
        Ok(())
    }
}
