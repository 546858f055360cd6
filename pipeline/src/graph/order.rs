//! Nodes in an order in which each comes after its predecessors, or the cycle that forbids it.

use std::collections::{HashMap, VecDeque};

use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

/// The order of `count` nodes with these edges.
///
/// # Errors
/// The shortest cycle through the first node that lies on one, with that node at both ends.
pub(super) fn order(
    count: usize,
    edges: impl Iterator<Item = (usize, usize)>,
) -> Result<Vec<usize>, Vec<usize>> {
    let mut graph = DiGraph::<(), ()>::with_capacity(count, 0);
    for _ in 0..count {
        graph.add_node(());
    }
    for (from, to) in edges {
        graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), ());
    }
    let numbers = |nodes: Vec<NodeIndex>| nodes.into_iter().map(NodeIndex::index).collect();
    match toposort(&graph, None) {
        Ok(order) => Ok(numbers(order)),
        Err(_) => Err(numbers(cycle(&graph))),
    }
}

fn cycle(graph: &DiGraph<(), ()>) -> Vec<NodeIndex> {
    let components = kosaraju_scc(graph).into_iter();
    let on_cycle = components
        .filter(|c| c.len() > 1 || graph.contains_edge(c[0], c[0]))
        .flatten();
    let Some(start) = on_cycle.min() else {
        return Vec::new();
    };
    let mut before = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in graph.neighbors(node) {
            before.entry(next).or_insert_with(|| {
                queue.push_back(next);
                node
            });
        }
    }
    let mut path = vec![start];
    let mut node = start;
    while let Some(&previous) = before.get(&node) {
        path.push(previous);
        node = previous;
        if node == start {
            break;
        }
    }
    path.reverse();
    path
}
