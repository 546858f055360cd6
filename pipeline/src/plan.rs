//! A checked graph becomes tasks and edges: *lowering*.
//!
//! Built-ins that need nothing but the item before them are fused with their neighbours into one
//! task ([`crate::segment`]). Everything else is called by a task of its own ([`crate::calls`]).
//! A called node with several inputs gets a node before it that joins them.

use std::collections::HashMap;
use std::sync::Arc;

use petgraph::unionfind::UnionFind;
use serde_json::{Map, Value};

use crate::builtin::{Batch, Builtin, FileFormat, FileSink, Filter, Flatten, MapStage};
use crate::builtin::{Pass, SinkSpec, Stage, generate};
use crate::calls::{CallUnit, Caller, MapCall};
use crate::check::{Checked, Kind};
use crate::control::{Control, EdgeView};
use crate::edge::{Receiver, edge};
use crate::expression::{Expression, Params, Template};
use crate::graph::{GraphError, GraphProblem, Join, NodeSpec, OnError, Policy, Port};
use crate::item::{Item, Lineage};
use crate::join::{Held, Joiner, Queue};
use crate::output::Output;
use crate::policy::{Memory, Rate};
use crate::pull::PullUnit;
use crate::run::{Outputs, Run, Unit};
use crate::segment::{Cell, Segment, State, Way, Work};
use crate::sight::{EdgeSight, NodeSight};
use crate::surroundings::{Call, Surroundings};

/// Items that are held for whoever runs the pipeline, for each node.
const LEAVING_BOUND: usize = 256;

/// How a graph is lowered.
#[derive(Debug, Clone, Copy)]
pub struct Lowering {
    /// Whether neighbours share a task.
    pub fuses: bool,
}

impl Default for Lowering {
    fn default() -> Self {
        Self { fuses: true }
    }
}

/// Starts a run of a graph, with these parameters. Must be called within a tokio runtime.
///
/// # Errors
/// A node cannot be made, such as a source whose file is not there.
pub fn start(
    checked: &Checked,
    params: &Map<String, Value>,
    surroundings: &dyn Surroundings,
    lowering: Lowering,
) -> Result<(Run, Outputs), GraphError> {
    let plan = Plan {
        checked,
        params: Params::new(params),
        surroundings,
    };
    plan.start(lowering)
}

struct Plan<'a> {
    checked: &'a Checked,
    params: Params,
    surroundings: &'a dyn Surroundings,
}

/// The edges of a node while tasks are put together.
#[derive(Default)]
struct Ends {
    /// For each input its edge.
    inputs: Vec<usize>,
    /// The edges of each port.
    main: Vec<usize>,
    errors: Vec<usize>,
}

impl Plan<'_> {
    fn start(&self, lowering: Lowering) -> Result<(Run, Outputs), GraphError> {
        let graph = &self.checked.graph;
        let (nodes, edges) = (graph.nodes(), graph.edges());
        let mut ends: Vec<Ends> = nodes.iter().map(|_| Ends::default()).collect();
        for (number, edge) in edges.iter().enumerate() {
            ends[edge.to].inputs.push(number);
            match edge.port {
                Port::Main => ends[edge.from].main.push(number),
                Port::Errors => ends[edge.from].errors.push(number),
            }
        }
        let is_called: Vec<bool> = (0..nodes.len()).map(|n| self.is_called(n)).collect();
        let mut tasks = UnionFind::new(nodes.len());
        for edge in edges.iter().filter(|_| lowering.fuses) {
            if !is_called[edge.from] && !is_called[edge.to] {
                tasks.union(edge.from, edge.to);
            }
        }
        let fused = |from: usize, to: usize| {
            lowering.fuses && !is_called[from] && !is_called[to] && tasks.equiv(from, to)
        };
        let tombstones = self.tombstones();
        let node_sights: Vec<Arc<NodeSight>> = nodes.iter().map(|_| Arc::default()).collect();
        let edge_sights: Vec<Arc<EdgeSight>> = edges.iter().map(|_| Arc::default()).collect();
        let views = edges
            .iter()
            .zip(&edge_sights)
            .map(|(edge, sight)| EdgeView {
                from: match edge.port {
                    Port::Main => nodes[edge.from].name.clone(),
                    Port::Errors => format!("{}.errors", nodes[edge.from].name),
                },
                to: nodes[edge.to].name.clone(),
                bound: edge.bound,
                is_fused: fused(edge.from, edge.to),
                sight: Arc::clone(sight),
            });
        let names = nodes.iter().map(|node| node.name.clone());
        let control = Control::new(
            names.zip(node_sights.iter().cloned()).collect(),
            views.collect(),
        );

        let (mut senders, mut receivers) = (HashMap::new(), HashMap::new());
        for (number, spec) in edges.iter().enumerate() {
            if !fused(spec.from, spec.to) {
                let sight = Arc::clone(&edge_sights[number]);
                let (sender, receiver) = edge(spec.bound, Arc::clone(&sight));
                senders.insert(number, Output::new(sender, sight));
                receivers.insert(number, (receiver, spec.bound));
            }
        }
        let mut outputs = Vec::new();
        let mut units = Vec::new();
        let mut segments: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut groups = Vec::new();
        for number in graph.order().iter().copied().filter(|n| !is_called[*n]) {
            let group = tasks.find(number);
            let group = segments.entry(group).or_insert_with(|| {
                groups.push(group);
                Vec::new()
            });
            group.push(number);
        }
        for group in groups {
            let members = segments.remove(&group).unwrap_or_default();
            let place: HashMap<usize, usize> = members
                .iter()
                .enumerate()
                .map(|(place, node)| (*node, place))
                .collect();
            let mut cells = Vec::with_capacity(members.len());
            for number in members.iter().copied() {
                let node = &nodes[number];
                let way = |edge: usize, senders: &mut HashMap<usize, Output>| {
                    let spec = &edges[edge];
                    match senders.remove(&edge) {
                        Some(output) => Way::Task(output),
                        None => Way::Node {
                            ahead: place[&spec.to] - place[&number] - 1,
                            input: input_of(&ends[spec.to], edge),
                            bound: spec.bound,
                            sight: Arc::clone(&edge_sights[edge]),
                        },
                    }
                };
                let mut main: Vec<Way> = ends[number]
                    .main
                    .iter()
                    .map(|edge| way(*edge, &mut senders))
                    .collect();
                let errors = ends[number]
                    .errors
                    .iter()
                    .map(|edge| way(*edge, &mut senders))
                    .collect();
                if self.checked.is_output(number) {
                    main.push(Way::Task(leave(&node.name, &mut outputs)));
                }
                let inputs = ends[number].inputs.len();
                cells.push(Cell {
                    name: node.name.clone(),
                    work: self.work(node, number)?,
                    joiner: self.joiner(node, number, inputs)?,
                    queues: (0..inputs).map(|_| Queue::default()).collect(),
                    receivers: ends[number]
                        .inputs
                        .iter()
                        .map(|e| receivers.remove(e))
                        .collect(),
                    main,
                    errors,
                    has_tombstones: tombstones[number],
                    on_error: node.on_error,
                    sight: Arc::clone(&node_sights[number]),
                    state: State::Open,
                });
            }
            let names: Vec<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
            units.push(Unit {
                nodes: names.join(", "),
                work: Box::pin(Segment::new(cells, control.clone())),
            });
        }
        for number in (0..nodes.len()).filter(|n| is_called[*n]) {
            let node = &nodes[number];
            let mut take = |edges: &[usize]| -> Vec<Output> {
                edges
                    .iter()
                    .filter_map(|edge| senders.remove(edge))
                    .collect()
            };
            let (mut main, errors) = (take(&ends[number].main), take(&ends[number].errors));
            if self.checked.is_output(number) {
                main.push(leave(&node.name, &mut outputs));
            }
            let inputs: Vec<(Receiver, usize)> = ends[number]
                .inputs
                .iter()
                .filter_map(|edge| receivers.remove(edge))
                .collect();
            let caller = self.caller(node, number, &node_sights[number])?;
            if caller.node.is_source() {
                units.push(source(node, caller, inputs.is_empty(), main, &control)?);
                continue;
            }
            let (receiver, bound) =
                self.single_input(node, number, inputs, &control, &mut units)?;
            let unit = CallUnit {
                caller: Arc::new(caller),
                receiver,
                bound,
                main,
                errors,
                has_tombstones: tombstones[number],
                is_ordered: node.is_ordered,
                on_error: node.on_error,
                control: control.clone(),
            };
            units.push(Unit {
                nodes: node.name.clone(),
                work: Box::pin(unit.run()),
            });
        }
        Ok((Run::start(control, units), Outputs::new(outputs)))
    }

    /// Whether a node needs a task of its own.
    fn is_called(&self, number: usize) -> bool {
        match &self.checked.kinds[number] {
            Kind::Foreign(_) => true,
            Kind::Builtin(_) => self.checked.graph.nodes()[number].policy != Policy::default(),
        }
    }

    /// For each node whether a join by lineage stands somewhere behind it.
    fn tombstones(&self) -> Vec<bool> {
        let graph = &self.checked.graph;
        let mut inputs = vec![0usize; graph.nodes().len()];
        let mut behind = vec![Vec::new(); graph.nodes().len()];
        for edge in graph.edges() {
            inputs[edge.to] += 1;
            behind[edge.from].push(edge.to);
        }
        let mut needed = vec![false; graph.nodes().len()];
        for number in graph.order().iter().rev().copied() {
            needed[number] = behind[number].iter().any(|next| {
                needed[*next] || (inputs[*next] > 1 && graph.nodes()[*next].join == Join::Zip)
            });
        }
        needed
    }

    fn joiner(&self, node: &NodeSpec, number: usize, inputs: usize) -> Result<Joiner, GraphError> {
        Ok(match (&node.join, inputs) {
            (_, 0 | 1) => Joiner::One,
            (Join::Any, _) => Joiner::Any(0),
            (Join::Zip, _) if self.checked.ordered_inputs[number] => Joiner::Merge,
            (Join::Zip, inputs) => Joiner::Lineage(Held::new(inputs)),
            (Join::Key(key), inputs) => {
                let key = Arc::new(expression(node, key)?);
                Joiner::Key(key, self.params.clone(), Held::new(inputs))
            }
        })
    }

    fn work(&self, node: &NodeSpec, number: usize) -> Result<Work, GraphError> {
        let Kind::Builtin(builtin) = &self.checked.kinds[number] else {
            return Ok(Work::Stage(Box::new(Pass)));
        };
        let params = || self.params.clone();
        let stage: Box<dyn Stage> = match &**builtin {
            Builtin::Source(spec) => {
                let source = generate(spec, &self.params, self.surroundings);
                let source = source.or_else(|reason| refuse(node, reason))?;
                return Ok(Work::Generate(source, 0));
            }
            Builtin::Map(expression) => Box::new(MapStage(Arc::clone(expression), params())),
            Builtin::Filter(expression) => Box::new(Filter(Arc::clone(expression), params())),
            Builtin::Flatten(expression) => Box::new(Flatten(expression.clone(), params())),
            Builtin::Batch(size) => Box::new(Batch {
                size: *size,
                held: Vec::new(),
                first: None,
            }),
            Builtin::Pass | Builtin::Sink(SinkSpec::Output) => Box::new(Pass),
            Builtin::Sink(SinkSpec::File(path, format)) => {
                let path = match path.value(&mut Value::Null, &self.params) {
                    Ok(Value::String(path)) => path,
                    Ok(_) => return refuse(node, "the path of the file is no text".to_owned()),
                    Err(reason) => return refuse(node, reason),
                };
                let format = format.unwrap_or_else(|| FileFormat::of(&path));
                match self.surroundings.create(&path) {
                    Ok(file) => Box::new(FileSink::new(path, format, file)),
                    Err(error) => return refuse(node, format!("cannot write {path}: {error}")),
                }
            }
        };
        Ok(Work::Stage(stage))
    }

    fn caller(
        &self,
        node: &NodeSpec,
        number: usize,
        sight: &Arc<NodeSight>,
    ) -> Result<Caller, GraphError> {
        let (called, with): (Arc<dyn Call>, _) = match &self.checked.kinds[number] {
            Kind::Builtin(builtin) => match &**builtin {
                Builtin::Map(expression) => {
                    let call = MapCall(Arc::clone(expression), self.params.clone());
                    (Arc::new(call), Template::Fixed(Value::Null))
                }
                _ => return refuse(node, "it cannot be called".to_owned()),
            },
            Kind::Foreign(_) => {
                let made = self.surroundings.node(node);
                let with = Template::new(&node.with);
                (
                    made.or_else(|reason| refuse(node, reason))?,
                    with.or_else(|reason| refuse(node, reason))?,
                )
            }
        };
        let policy = node.policy.clone();
        // What is limited by time is called item by item, and what may do several things at a time
        // gets them at a time.
        let is_plain = policy.concurrency == 1 && policy.timeout.is_none() && policy.rate.is_none();
        let (batch, ahead) = match is_plain {
            true => (called.batch(), called.ahead()),
            false => (1, 0),
        };
        Ok(Caller {
            batch: policy.batch.unwrap_or(batch),
            open: policy.concurrency + ahead,
            name: node.name.clone(),
            with,
            params: self.params.clone(),
            when: policy
                .when
                .as_ref()
                .map(|when| expression(node, when))
                .transpose()?,
            rate: policy.rate.map(Rate::new),
            memory: match policy.cache {
                0 => None,
                most => Some(Memory::new(called.fingerprint(), most)),
            },
            node: called,
            policy,
            sight: Arc::clone(sight),
        })
    }

    /// The one edge from which a called node takes its items: its own, that of a join before it,
    /// or, for a node without inputs, one with a single null on it.
    fn single_input(
        &self,
        node: &NodeSpec,
        number: usize,
        mut inputs: Vec<(Receiver, usize)>,
        control: &Control,
        units: &mut Vec<Unit>,
    ) -> Result<(Receiver, usize), GraphError> {
        if inputs.len() == 1
            && let Some(only) = inputs.pop()
        {
            return Ok(only);
        }
        let bound = inputs.iter().map(|(_, bound)| *bound).max().unwrap_or(1);
        let sight = Arc::<EdgeSight>::default();
        let (sender, receiver) = edge(bound, Arc::clone(&sight));
        let mut output = Output::new(sender, sight);
        if inputs.is_empty() {
            output.put([Item::new(Lineage::new(0), Value::Null)].into_iter());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = output.poll_flush(&mut cx);
            output.end();
            return Ok((receiver, bound));
        }
        let cell = Cell {
            name: node.name.clone(),
            work: Work::Stage(Box::new(Pass)),
            joiner: self.joiner(node, number, inputs.len())?,
            queues: inputs.iter().map(|_| Queue::default()).collect(),
            receivers: inputs.into_iter().map(Some).collect(),
            main: vec![Way::Task(output)],
            errors: Vec::new(),
            has_tombstones: true,
            on_error: OnError::Fail,
            sight: Arc::default(),
            state: State::Open,
        };
        units.push(Unit {
            nodes: node.name.clone(),
            work: Box::pin(Segment::new(vec![cell], control.clone())),
        });
        Ok((receiver, bound))
    }
}

/// The task of a source that is no built-in.
fn source(
    node: &NodeSpec,
    caller: Caller,
    has_no_inputs: bool,
    main: Vec<Output>,
    control: &Control,
) -> Result<Unit, GraphError> {
    if !has_no_inputs {
        return Err(GraphError {
            place: node.place(),
            problem: GraphProblem::SourceWithInput,
        });
    }
    if node.policy != Policy::default() {
        let text = format!("{:?} is a source, and takes no policy", node.uses);
        return refuse(node, text);
    }
    let unit = PullUnit {
        name: node.name.clone(),
        node: caller.node,
        main,
        sight: caller.sight,
        control: control.clone(),
    };
    Ok(Unit {
        nodes: node.name.clone(),
        work: Box::pin(unit.run()),
    })
}

/// Which input of a node an edge is.
fn input_of(ends: &Ends, edge: usize) -> usize {
    let place = ends.inputs.iter().position(|input| *input == edge);
    place.unwrap_or_default()
}

/// An edge to whoever runs the pipeline.
fn leave(name: &str, outputs: &mut Vec<(String, Receiver)>) -> Output {
    let sight = Arc::<EdgeSight>::default();
    let (sender, receiver) = edge(LEAVING_BOUND, Arc::clone(&sight));
    outputs.push((name.to_owned(), receiver));
    Output::new(sender, sight)
}

fn expression(node: &NodeSpec, text: &str) -> Result<Expression, GraphError> {
    Expression::new(text).or_else(|reason| refuse(node, reason))
}

fn refuse<T>(node: &NodeSpec, reason: String) -> Result<T, GraphError> {
    Err(GraphError {
        place: node.place(),
        problem: GraphProblem::Argument(reason),
    })
}
