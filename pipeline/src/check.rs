//! What a graph can be refused for before it runs: names that mean nothing, inputs that are
//! missing or too many, items that do not fit, joins that could never pair.

use crate::builtin::{Builtin, SinkSpec};
use crate::expression::Expression;
use crate::graph::{Graph, GraphError, GraphProblem, Join, NodeSpec, OnError, Policy, Port};
use crate::surroundings::{Catalog, Foreign};
use crate::types::ItemType;

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    Builtin(Box<Builtin>),
    Foreign(Foreign),
}

/// What is known of the items that leave a node.
#[derive(Debug, Clone)]
struct Flow {
    kind: ItemType,
    /// They come in the order of their lineage.
    is_ordered: bool,
    /// No lineage comes twice.
    is_unique: bool,
    /// The nodes that made several items of one, or one of several, on the way.
    grain: Vec<usize>,
}

/// A graph in which each node can do its work.
#[derive(Debug)]
pub struct Checked {
    pub(crate) graph: Graph,
    pub(crate) kinds: Vec<Kind>,
    /// For each node whether all its inputs come in order, so that a zip need not hold any.
    pub(crate) ordered_inputs: Vec<bool>,
    /// For each node whether nobody takes what it makes.
    leaves: Vec<bool>,
}

impl Checked {
    /// Checks a graph against the nodes that there are.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn new(graph: Graph, catalog: &dyn Catalog) -> Result<Self, GraphError> {
        let mut kinds = Vec::with_capacity(graph.nodes().len());
        for node in graph.nodes() {
            let kind = kind(node, catalog)?;
            check_policy(node, &kind)?;
            kinds.push(kind);
        }
        let mut inputs = vec![Vec::new(); kinds.len()];
        let mut has_outputs = vec![false; kinds.len()];
        for (number, edge) in graph.edges().iter().enumerate() {
            inputs[edge.to].push(number);
            has_outputs[edge.from] |= edge.port == Port::Main;
        }
        let mut ordered_inputs = vec![true; kinds.len()];
        let mut flows: Vec<Option<Flow>> = vec![None; kinds.len()];
        for number in graph.order().iter().copied() {
            let (node, kind) = (&graph.nodes()[number], &kinds[number]);
            check_ends(
                &graph,
                number,
                kind,
                !inputs[number].is_empty(),
                has_outputs[number],
            )?;
            let taken: Vec<(usize, Flow)> = inputs[number]
                .iter()
                .filter_map(|edge| {
                    let edge = &graph.edges()[*edge];
                    let mut flow = flows[edge.from].clone()?;
                    if edge.port == Port::Errors {
                        flow.kind = ItemType::Object;
                    }
                    Some((edge.from, flow))
                })
                .collect();
            ordered_inputs[number] = taken.iter().all(|(_, flow)| flow.is_ordered);
            flows[number] = Some(flow(&graph, node, number, kind, &taken)?);
        }
        Ok(Self {
            graph,
            kinds,
            ordered_inputs,
            leaves: has_outputs.into_iter().map(|has| !has).collect(),
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The nodes whose items leave the pipeline.
    pub fn outputs(&self) -> impl Iterator<Item = &NodeSpec> {
        let numbers = 0..self.kinds.len();
        numbers
            .filter(|number| self.is_output(*number))
            .map(|number| &self.graph.nodes()[number])
    }

    /// Whether the items of a node leave the pipeline.
    pub(crate) fn is_output(&self, number: usize) -> bool {
        match &self.kinds[number] {
            Kind::Builtin(builtin) if builtin.is_sink() => {
                matches!(**builtin, Builtin::Sink(SinkSpec::Output))
            }
            _ => self.leaves[number] && self.leaves_are_outputs(),
        }
    }

    fn leaves_are_outputs(&self) -> bool {
        self.graph.leaves_are_outputs || self.graph.nodes().len() == 1
    }
}

fn error<T>(node: &NodeSpec, problem: GraphProblem) -> Result<T, GraphError> {
    error_at(node.place(), problem)
}

fn error_at<T>(place: String, problem: GraphProblem) -> Result<T, GraphError> {
    Err(GraphError { place, problem })
}

fn kind(node: &NodeSpec, catalog: &dyn Catalog) -> Result<Kind, GraphError> {
    if let Some(builtin) = Builtin::read(node)? {
        return Ok(Kind::Builtin(Box::new(builtin)));
    }
    match catalog.find(node) {
        Ok(Some(foreign)) => Ok(Kind::Foreign(foreign)),
        Ok(None) => error_at(
            format!("{}.use", node.place()),
            GraphProblem::UnknownUse(node.uses.clone()),
        ),
        Err(reason) => error(node, GraphProblem::Argument(reason)),
    }
}

/// Settings that a node has no use for are refused, since whoever wrote them expects something.
fn check_policy(node: &NodeSpec, kind: &Kind) -> Result<(), GraphError> {
    let policy = &node.policy;
    for (key, text) in [
        ("when", policy.when.as_ref()),
        ("join.key", key_of(&node.join)),
    ] {
        if let Some(Err(reason)) = text.map(|text| Expression::new(text)) {
            return error_at(
                format!("{}.{key}", node.place()),
                GraphProblem::Argument(reason),
            );
        }
    }
    let builtin = match kind {
        Kind::Builtin(builtin) if !matches!(**builtin, Builtin::Map(_)) => builtin,
        _ => return Ok(()),
    };
    let plain = Policy::default();
    let set = [
        ("concurrency", policy.concurrency != plain.concurrency),
        ("batch", policy.batch != plain.batch),
        ("retry", policy.retry != plain.retry),
        ("timeout", policy.timeout.is_some()),
        ("rate", policy.rate.is_some()),
        ("when", policy.when.is_some()),
        ("cache", policy.cache != plain.cache),
        ("order", !node.is_ordered),
        (
            "errors",
            node.on_error != OnError::Fail && builtin.is_source(),
        ),
    ];
    match set.into_iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((key, _)) => error_at(
            format!("{}.{key}", node.place()),
            GraphProblem::Argument(format!("{:?} has no such setting", node.uses)),
        ),
    }
}

fn key_of(join: &Join) -> Option<&String> {
    match join {
        Join::Key(key) => Some(key),
        _ => None,
    }
}

fn check_ends(
    graph: &Graph,
    number: usize,
    kind: &Kind,
    has_inputs: bool,
    has_outputs: bool,
) -> Result<(), GraphError> {
    let node = &graph.nodes()[number];
    let Kind::Builtin(builtin) = kind else {
        return match has_outputs || graph.leaves_are_outputs || graph.nodes().len() == 1 {
            true => Ok(()),
            false => error(node, GraphProblem::Unused(NOBODY)),
        };
    };
    match (builtin.is_source(), has_inputs) {
        (true, true) => return error(node, GraphProblem::SourceWithInput),
        (false, false) => return error(node, GraphProblem::NoInput),
        _ => {}
    }
    match (builtin.is_sink(), has_outputs) {
        (true, true) => error(node, GraphProblem::Unused("a sink sends nothing on")),
        (false, false) if !graph.leaves_are_outputs => error(node, GraphProblem::Unused(NOBODY)),
        _ => Ok(()),
    }
}

const NOBODY: &str = "nobody takes what it makes; let a `sink` take it, or remove the node";

fn flow(
    graph: &Graph,
    node: &NodeSpec,
    number: usize,
    kind: &Kind,
    taken: &[(usize, Flow)],
) -> Result<Flow, GraphError> {
    let mut flow = joined(graph, node, number, taken)?;
    let takes = match kind {
        Kind::Builtin(builtin) => builtin.takes(),
        Kind::Foreign(foreign) => foreign.takes.clone(),
    };
    if !flow.kind.fits(&takes) {
        return error(
            node,
            GraphProblem::Mismatch(format!("it takes {takes}, and gets {}", flow.kind)),
        );
    }
    match kind {
        Kind::Builtin(builtin) => {
            flow.kind = builtin.gives(&flow.kind);
            if matches!(**builtin, Builtin::Flatten(_) | Builtin::Batch(_)) {
                flow.grain.push(number);
            }
        }
        Kind::Foreign(foreign) => flow.kind = foreign.gives.clone(),
    }
    flow.is_ordered &= node.is_ordered;
    Ok(flow)
}

/// What a node gets when its inputs are joined.
fn joined(
    graph: &Graph,
    node: &NodeSpec,
    number: usize,
    taken: &[(usize, Flow)],
) -> Result<Flow, GraphError> {
    let name = |number: usize| format!("{:?}", graph.nodes()[number].name);
    let (first, others) = match taken {
        [] => {
            return Ok(Flow {
                kind: ItemType::Null,
                is_ordered: true,
                is_unique: true,
                grain: Vec::new(),
            });
        }
        [(_, only)] => return Ok(only.clone()),
        [first, others @ ..] => (first, others),
    };
    let kinds = || taken.iter().map(|(_, flow)| flow.kind.clone());
    let tuple = ItemType::List(Box::new(ItemType::common(kinds())));
    match node.join {
        Join::Any => {
            let mut grain = first.1.grain.clone();
            grain.push(number);
            Ok(Flow {
                kind: ItemType::common(kinds()),
                is_ordered: false,
                is_unique: false,
                grain,
            })
        }
        Join::Key(_) => Ok(Flow {
            kind: tuple,
            is_ordered: false,
            is_unique: first.1.is_unique,
            grain: first.1.grain.clone(),
        }),
        Join::Zip => {
            if let Some((several, _)) = taken.iter().find(|(_, flow)| !flow.is_unique) {
                let text = format!(
                    "items from {} may have one origin several times; join by `key` instead",
                    name(*several)
                );
                return error(node, GraphProblem::Zip(text));
            }
            if let Some((other, _)) = others.iter().find(|(_, flow)| flow.grain != first.1.grain) {
                let way = |flow: &Flow| match flow.grain.is_empty() {
                    true => "a source as it is".to_owned(),
                    false => flow
                        .grain
                        .iter()
                        .map(|n| name(*n))
                        .collect::<Vec<_>>()
                        .join(", "),
                };
                let text = format!(
                    "items from {} come from {}, those from {} from {}, and so have different origins",
                    name(first.0),
                    way(&first.1),
                    name(*other),
                    way(&taken.iter().find(|(n, _)| n == other).unwrap_or(first).1),
                );
                return error(node, GraphProblem::Zip(text));
            }
            Ok(Flow {
                kind: tuple,
                is_ordered: taken.iter().all(|(_, flow)| flow.is_ordered),
                is_unique: true,
                grain: first.1.grain.clone(),
            })
        }
    }
}
