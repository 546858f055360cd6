//! Both shapes, what is wrong with them, and the order.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

fn ordered(graph: &Graph) -> Vec<&str> {
    let nodes = graph.order().iter();
    nodes.map(|n| graph.nodes()[*n].name.as_str()).collect()
}

fn edges(graph: &Graph) -> Vec<String> {
    graph
        .edges()
        .iter()
        .map(|edge| graph.edge_name(edge))
        .collect()
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
    assert_eq!(ordered(&graph), ["inp", "n1", "n2", "n3", "n4"]);
    let node = |name: &str| graph.nodes().iter().find(|node| node.name == name).unwrap();
    assert_eq!(
        (&node("n4").join, &node("n3").join),
        (&Join::Any, &Join::Zip)
    );
    assert_eq!(
        (node("inp").uses.as_str(), &node("inp").with),
        ("read", &json!([1, "x"]))
    );

    let ours = json!({
        "name": "p", "nodes": {
            "a": {"use": "x", "with": {"n": 1}, "retry": 3, "timeout": 1.5, "cache": true},
            "b": {"use": "y", "join": "any", "from": ["a", {"node": "a.errors", "bound": 3}]},
            "c": {"use": "z", "from": "b", "join": {"key": "item.id"}, "order": false},
        },
        "edges": [{"from": "a", "to": "c", "bound": 9}],
    });
    let graph = Graph::from_json(&ours).unwrap();
    assert_eq!(
        edges(&graph),
        ["a -> b", "a.errors -> b", "b -> c", "a -> c"]
    );
    assert_eq!(
        graph
            .edges()
            .iter()
            .map(|edge| edge.bound)
            .collect::<Vec<_>>(),
        [64, 3, 64, 9]
    );
    let a = &graph.nodes()[0];
    assert_eq!(
        (a.on_error, a.policy.retry.attempts, a.policy.cache),
        (OnError::Edge, 3, 10_000)
    );
    assert_eq!(a.policy.timeout, Some(Duration::from_millis(1500)));
    assert_eq!(graph.nodes()[2].join, Join::Key("item.id".to_owned()));
    assert!(!graph.nodes()[2].is_ordered);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let nodes = json!({"a": {"use": "x"}, "b": {"use": "x"}, "c": {"use": "x"}});
    let edges = |edges: Value| json!({"nodes": nodes, "edges": edges});
    let node = |node: Value| json!({"nodes": {"a": node}});
    for (json, want) in [
        (json!([]), "nodes: expected an object of nodes"),
        (json!({"nodes": {}}), "nodes: there are no nodes"),
        (json!({"node": {}}), "node: unknown key; known are name, "),
        (
            json!({"nodes": {"a.b": {"use": "x"}}}),
            "nodes.a.b: expected a name of 1 to 100",
        ),
        (node(json!(1)), "nodes.a: expected an object"),
        (
            node(json!({})),
            "nodes.a: expected \"use\" (or \"coro\"), the name of what it runs",
        ),
        (
            node(json!({"use": "x", "retires": 3})),
            "nodes.a.retires: unknown key; known are use, ",
        ),
        (
            node(json!({"use": "x", "join": 1})),
            "nodes.a.join: expected \"zip\", \"any\" or {\"key\"",
        ),
        (
            node(json!({"use": "x", "retry": 0})),
            "nodes.a.retry: expected a number from 1 to 100",
        ),
        (
            node(json!({"use": "x", "timeout": -1})),
            "nodes.a.timeout: expected a number above 0",
        ),
        (
            node(json!({"use": "x", "from": "b"})),
            "nodes.a.from: there is no node \"b\"",
        ),
        (
            node(json!({"use": "x", "errors": "edge"})),
            "nodes.a.errors: expected an edge from",
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
            "nodes.c: it is connected to nothing",
        ),
        (
            edges(json!([["a", "b"], ["b", "c"], ["c", "b"]])),
            "nodes.b: cycle b -> c -> b",
        ),
        (
            edges(json!([["a", "b"], ["b", "c"], ["c", "c"]])),
            "nodes.c: cycle c -> c",
        ),
    ] {
        let error = Graph::from_json(&json).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}, expected {want}");
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
    assert_eq!(Graph::from_json(&longest).unwrap().order().len(), MAX_NODES);
    let back = json!([(MAX_NODES - 1).to_string(), "0"]);
    longest["edges"].as_array_mut().unwrap().push(back);
    let error = Graph::from_json(&longest).unwrap_err();
    assert!(matches!(error.problem, GraphProblem::Cycle(path) if path.len() == MAX_NODES + 1));
    let error = Graph::from_json(&chain(MAX_NODES + 1))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "nodes: 10001 are more than the limit of 10000");
}

#[test]
fn pictures_quote_what_they_name() {
    let graph = json!({"name": "q", "nodes": {
        "a\"b": {"use": "x"}, "<c>": {"use": "y", "from": ["a\"b", "a\"b.errors"], "join": "any"},
    }});
    let graph = Graph::from_json(&graph).unwrap();
    assert_eq!(
        graph.mermaid(),
        "flowchart LR\n  n0[\"a#34;b<br>x\"]\n  n1[\"#60;c#62;<br>y\"]\n  n0 --> n1\n  n0 -.->|errors| n1\n"
    );
    let dot = graph.dot();
    assert!(dot.contains("n0 [label=\"a\\\"b\\nx\"];"), "{dot}");
    assert!(
        dot.contains("n0 -> n1 [style=dashed, label=errors];"),
        "{dot}"
    );
    let picture = serde_json::to_value(graph.picture()).unwrap();
    assert_eq!(
        picture["edges"][1],
        json!({"from": "a\"b.errors", "to": "<c>", "bound": 64})
    );
    assert_eq!(
        picture["nodes"][1],
        json!({"name": "<c>", "use": "y", "join": "any"})
    );
}

#[test]
fn what_is_left_of_a_large_graph_is_drawn_and_says_what_is_not() {
    let nodes = json!({
        "a": {"use": "x"},
        "b": {"use": "y", "from": "a"},
        "c": {"use": "z", "from": ["b", "a.errors"]},
    });
    let graph = Graph::from_json(&json!({ "nodes": nodes })).unwrap();
    let mut picture = serde_json::to_value(graph.picture()).unwrap();
    assert!(picture.get("omitted").is_none(), "{picture}");
    picture["nodes"].as_array_mut().unwrap().truncate(2);
    picture["omitted"] = json!(1);
    let picture: Picture = serde_json::from_value(picture).unwrap();
    assert_eq!(
        picture.mermaid(),
        "flowchart LR\n  n0[\"a<br>x\"]\n  n1[\"b<br>y\"]\n  n0 --> n1\n  %% 1 nodes and edges are left out\n"
    );
    let dot = picture.dot();
    assert!(
        dot.ends_with("  n0 -> n1;\n  // 1 nodes and edges are left out\n}\n"),
        "{dot}"
    );
}

proptest! {
    /// Random edges: either the order holds, or the cycle is a real one.
    #[test]
    fn order_or_cycle(pairs in proptest::collection::hash_set((0..8usize, 0..8usize), 1..16)) {
        let used: HashSet<usize> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let nodes: Map<_, _> = used.iter().map(|n| (n.to_string(), json!({"use": "x"}))).collect();
        let edges: Vec<_> =
            pairs.iter().map(|(a, b)| json!([a.to_string(), b.to_string()])).collect();
        let number = |name: &str| name.parse::<usize>().unwrap();
        match Graph::from_json(&json!({"nodes": nodes, "edges": edges})) {
            Ok(graph) => {
                let order: Vec<usize> = ordered(&graph).into_iter().map(number).collect();
                let at = |n: usize| order.iter().position(|m| *m == n).unwrap();
                prop_assert_eq!(order.len(), used.len());
                prop_assert!(pairs.iter().all(|(a, b)| at(*a) < at(*b)));
                prop_assert_eq!(graph.edges().len(), pairs.len());
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
            let _ = Graph::from_json(&json!({"nodes": {"a": {"use": "x", "from": json}}}));
            let _ = Graph::from_json(&json!({"nodes": {"a": {"use": "x"}}, "edges": json}));
            let _ = Graph::from_json(&json!({"nodes": {"a": {"use": "x"}}, "graph": json}));
        }
    }
}
