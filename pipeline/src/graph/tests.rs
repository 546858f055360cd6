//! Both shapes, what is wrong with them, and the order.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn names<'a>(nodes: impl Iterator<Item = &'a NodeSpec>) -> Vec<&'a str> {
    nodes.map(|node| node.name.as_str()).collect()
}

#[test]
fn both_shapes_are_read() {
    let seed = json!({
        "nodes": {
            "n4": {"coro": "print", "args": [], "properties": {"aggregate_inputs": false}},
            "n1": {"coro": "reverse"}, "n2": {"coro": "upper"}, "n3": {"coro": "lower"},
            "inp": {"coro": "read", "args": [1, "x"]},
        },
        "graph": {"n4": null, "n3": ["n4"], "n2": ["n3", "n4"], "n1": ["n2", "n3"], "inp": ["n1"]},
    });
    let graph = Graph::from_json(&seed).unwrap();
    assert_eq!(names(graph.order()), ["inp", "n1", "n2", "n3", "n4"]);
    assert_eq!(
        (names(graph.inputs()), names(graph.outputs())),
        (vec!["inp"], vec!["n4"])
    );
    let nodes: Vec<_> = graph.order().collect();
    assert_eq!((nodes[4].join, nodes[3].join), (Join::Any, Join::Zip));
    assert_eq!(
        (nodes[0].uses.as_str(), &nodes[0].args),
        ("read", &json!([1, "x"]))
    );

    let ours = json!({
        "nodes": {"a": {"use": "x", "with": {"n": 1}}, "b": {"use": "y", "join": "any"}},
        "edges": [{"from": "a", "to": "b", "bound": 3}],
    });
    let graph = Graph::from_json(&ours).unwrap();
    let edges: Vec<_> = graph
        .edges()
        .map(|(a, b, n)| (a.name.as_str(), b.join, n))
        .collect();
    assert_eq!(edges, [("a", Join::Any, 3)]);
    assert!(Graph::from_json(&json!({"nodes": {"a": {"use": "x"}}})).is_ok());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let nodes = json!({"a": {"use": "x"}, "b": {"use": "x"}, "c": {"use": "x"}});
    let edges = |edges: Value| json!({"nodes": nodes, "edges": edges});
    for (json, want) in [
        (json!([]), "nodes: expected an object of nodes"),
        (json!({"nodes": {}}), "nodes: there are no nodes"),
        (json!({"nodes": {"a": 1}}), "nodes.a: expected an object"),
        (
            json!({"nodes": {"a": {}}}),
            "nodes.a: expected \"use\" (or \"coro\"), the name of what it runs",
        ),
        (
            json!({"nodes": {"a": {"use": "x", "join": 1}}}),
            "nodes.a.join: expected \"zip\" or \"any\"",
        ),
        (
            json!({"nodes": nodes, "edges": [], "graph": {}}),
            "graph: expected either \"edges\" or \"graph\", not both",
        ),
        (
            json!({"nodes": nodes, "graph": {"a": "b"}}),
            "graph.a: expected a list of successors, or null",
        ),
        (
            json!({"nodes": nodes, "graph": {"a": ["b", "x"]}}),
            "graph.a[1]: there is no node \"x\"",
        ),
        (
            json!({"nodes": nodes, "graph": {"x": null}}),
            "graph.x: there is no node \"x\"",
        ),
        (
            edges(json!([["a"]])),
            "edges[0]: expected [from, to] or {\"from\", \"to\", \"bound\"}",
        ),
        (
            edges(json!([["a", "b"], {"from": "b", "to": "x"}])),
            "edges[1]: there is no node \"x\"",
        ),
        (
            edges(json!([{"from": "a", "to": "b", "bound": 0}])),
            "edges[0].bound: expected a number from 1 to 1048576",
        ),
        (
            edges(json!([["a", "b"], ["b", "c"], ["a", "b"]])),
            "edges[2]: the edge a -> b is there twice",
        ),
        (
            edges(json!([["a", "b"]])),
            "nodes.c: node \"c\" is connected to nothing",
        ),
        (
            edges(json!([["a", "b"], ["b", "c"], ["c", "b"]])),
            "edges: cycle b -> c -> b",
        ),
        (
            edges(json!([["a", "b"], ["b", "c"], ["c", "c"]])),
            "edges: cycle c -> c",
        ),
    ] {
        assert_eq!(Graph::from_json(&json).unwrap_err().to_string(), want);
    }
}

#[test]
fn large_graphs_are_bounded_and_need_no_stack() {
    let chain = |n: usize| {
        let nodes: Map<_, _> = (0..n)
            .map(|i| (i.to_string(), json!({"use": "x"})))
            .collect();
        let edges: Vec<_> = (1..n)
            .map(|i| json!([(i - 1).to_string(), i.to_string()]))
            .collect();
        json!({"nodes": nodes, "edges": edges})
    };
    let mut longest = chain(MAX_NODES);
    assert_eq!(
        Graph::from_json(&longest).unwrap().order().count(),
        MAX_NODES
    );
    longest["edges"]
        .as_array_mut()
        .unwrap()
        .push(json!([(MAX_NODES - 1).to_string(), "0"]));
    let error = Graph::from_json(&longest).unwrap_err();
    assert!(matches!(error.problem, GraphProblem::Cycle(path) if path.len() == MAX_NODES + 1));
    let error = Graph::from_json(&chain(MAX_NODES + 1))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "nodes: 10001 are more than the limit of 10000");
}

proptest! {
    /// Random edges: either the order holds and both ends are right, or the cycle is a real one.
    #[test]
    fn order_or_cycle(pairs in proptest::collection::hash_set((0..8usize, 0..8usize), 1..16)) {
        let used: HashSet<usize> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let nodes: Map<_, _> = used.iter().map(|n| (n.to_string(), json!({"use": "x"}))).collect();
        let edges: Vec<_> = pairs.iter().map(|(a, b)| json!([a.to_string(), b.to_string()])).collect();
        let number = |name: &str| name.parse::<usize>().unwrap();
        match Graph::from_json(&json!({"nodes": nodes, "edges": edges})) {
            Ok(graph) => {
                let order: Vec<usize> = graph.order().map(|node| number(&node.name)).collect();
                let at = |n: usize| order.iter().position(|m| *m == n).unwrap();
                prop_assert_eq!(order.len(), used.len());
                prop_assert!(pairs.iter().all(|(a, b)| at(*a) < at(*b)));
                prop_assert!(graph.inputs().all(|n| pairs.iter().all(|(_, b)| *b != number(&n.name))));
                prop_assert!(graph.outputs().all(|n| pairs.iter().all(|(a, _)| *a != number(&n.name))));
                prop_assert_eq!(graph.edges().count(), pairs.len());
            }
            Err(GraphError { problem: GraphProblem::Cycle(path), .. }) => {
                let path: Vec<usize> = path.iter().map(|name| number(name)).collect();
                prop_assert!(path.len() > 1 && path.first() == path.last());
                prop_assert!(path.windows(2).all(|w| pairs.contains(&(w[0], w[1]))));
                let inner: HashSet<_> = path[1..].iter().collect();
                prop_assert_eq!(inner.len(), path.len() - 1, "a node twice");
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn no_json_makes_it_panic(text in "[\\[\\]{}\":,a-c0-9 ]{0,60}") {
        if let Ok(json) = serde_json::from_str::<Value>(&text) {
            let _ = Graph::from_json(&json);
            let _ = Graph::from_json(&json!({"nodes": {"a": {"use": "x"}}, "edges": json}));
            let _ = Graph::from_json(&json!({"nodes": {"a": {"use": "x"}}, "graph": json}));
        }
    }
}
