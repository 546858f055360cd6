//! Small graphs to their end, failure and cancellation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::edge::Lineage;
use crate::node::NodeFuture;

/// Sends numbers; counts what it has sent.
struct Source(u64, Arc<AtomicU64>);

impl Node for Source {
    fn run<'a>(&'a mut self, ports: &'a mut Ports) -> NodeFuture<'a> {
        Box::pin(async move {
            for number in 0..self.0 {
                self.1.fetch_add(1, Ordering::Relaxed);
                ports.emit(Lineage::new(number), json!(number)).await?;
            }
            Ok(())
        })
    }
}

/// Gives each tuple to a function: a value, nothing, or a failure.
struct Map<F>(F);

impl<F: FnMut(Vec<Value>) -> Result<Option<Value>, String> + Send> Node for Map<F> {
    fn run<'a>(&'a mut self, ports: &'a mut Ports) -> NodeFuture<'a> {
        Box::pin(async move {
            while let Some(joined) = ports.next().await? {
                match (self.0)(joined.values).map_err(NodeError::Failed)? {
                    Some(value) => ports.emit(joined.lineage, value).await?,
                    None => ports.skip(joined.lineage).await?,
                }
            }
            Ok(())
        })
    }
}

/// Never does anything; tells when it is dropped.
struct Stuck(Arc<AtomicU64>);

impl Node for Stuck {
    fn run<'a>(&'a mut self, _: &'a mut Ports) -> NodeFuture<'a> {
        Box::pin(std::future::pending())
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

type Nodes = HashMap<String, Box<dyn Node>>;
type Seen = Arc<Mutex<Vec<Value>>>;

fn source(count: u64) -> Box<dyn Node> {
    Box::new(Source(count, Arc::default()))
}

fn map(
    f: impl FnMut(Vec<Value>) -> Result<Option<Value>, String> + Send + 'static,
) -> Box<dyn Node> {
    Box::new(Map(f))
}

/// A map of single numbers.
fn number(f: impl Fn(u64) -> Option<u64> + Send + 'static) -> Box<dyn Node> {
    map(move |values| Ok(f(values[0].as_u64().unwrap()).map(Value::from)))
}

/// Keeps the tuples that it gets.
fn sink(seen: &Seen) -> Box<dyn Node> {
    let seen = seen.clone();
    map(move |values| {
        seen.lock().unwrap().push(Value::from(values));
        Ok(None)
    })
}

/// A graph of edges with a bound of 2, written `a>b`; nodes whose name begins with `any` join so.
fn graph(edges: &str) -> Graph {
    let pairs: Vec<_> = edges
        .split(' ')
        .filter_map(|edge| edge.split_once('>'))
        .collect();
    let names = pairs.iter().flat_map(|(a, b)| [*a, *b]);
    let node = |name: &str| json!({"use": "x", "join": if name.starts_with("any") { "any" } else { "zip" }});
    let nodes: serde_json::Map<_, _> = names.map(|name| (name.to_owned(), node(name))).collect();
    let edges: Vec<_> = pairs
        .iter()
        .map(|(a, b)| json!({"from": a, "to": b, "bound": 2}))
        .collect();
    Graph::from_json(&json!({"nodes": nodes, "edges": edges})).unwrap()
}

async fn go<const N: usize>(
    edges: &str,
    nodes: [(&str, Box<dyn Node>); N],
) -> Result<Report, RunError> {
    let nodes: Nodes = nodes
        .into_iter()
        .map(|(name, node)| (name.to_owned(), node))
        .collect();
    let graph = graph(edges);
    let run = run(&graph, nodes, CancellationToken::new());
    tokio::time::timeout(Duration::from_secs(20), run)
        .await
        .expect("the run hangs")
}

#[tokio::test]
async fn source_map_sink() {
    let seen = Seen::default();
    let nodes = [
        ("a", source(1000)),
        ("b", number(|n| Some(n * 2))),
        ("c", sink(&seen)),
    ];
    let report = go("a>b b>c", nodes).await.unwrap();
    let want: Vec<_> = (0..1000).map(|n| json!([n * 2])).collect();
    assert_eq!(*seen.lock().unwrap(), want);
    assert_eq!(
        report["b"],
        Counts {
            received: 1000,
            sent: 1000,
            unpaired: 0
        }
    );
}

#[tokio::test]
async fn zip_pairs_by_origin_though_a_filter_drops_most() {
    let seen = Seen::default();
    let nodes = [
        ("a", source(1000)),
        ("filter", number(|n| (n % 100 == 7).then_some(n))),
        ("slow", number(|n| Some(n + 1))),
        ("z", sink(&seen)),
    ];
    go("a>filter a>slow filter>z slow>z", nodes).await.unwrap();
    let want: Vec<_> = (0..10).map(|n| json!([n * 100 + 7, n * 100 + 8])).collect();
    assert_eq!(*seen.lock().unwrap(), want);
}

#[tokio::test]
async fn two_sources_end_with_the_shorter() {
    let (seen, made) = (Seen::default(), Arc::new(AtomicU64::new(0)));
    let endless = Box::new(Source(u64::MAX, made.clone()));
    let report = go(
        "a>z b>z",
        [("a", source(5)), ("b", endless), ("z", sink(&seen))],
    )
    .await
    .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 5);
    assert_eq!(report["z"].received, 5);
    assert!(made.load(Ordering::Relaxed) < 20);
}

#[tokio::test]
async fn the_test_graph_of_the_seed() {
    let seen = Seen::default();
    let nodes = [
        ("inp", source(100)),
        ("n1", number(|n| Some(n + 1000))),
        ("n2", number(|n| Some(n + 10_000))),
        ("n3", map(|values| Ok(Some(Value::from(values))))),
        ("any4", sink(&seen)),
    ];
    go("inp>n1 n1>n2 n1>n3 n2>n3 n2>any4 n3>any4", nodes)
        .await
        .unwrap();
    let mut seen = seen.lock().unwrap().clone();
    let mut want: Vec<_> = (1000..1100)
        .flat_map(|n| [json!([n + 10_000]), json!([[n, n + 10_000]])])
        .collect();
    seen.sort_by_key(Value::to_string);
    want.sort_by_key(Value::to_string);
    assert_eq!(seen, want);
}

#[tokio::test]
async fn a_full_edge_holds_the_source_back() {
    let made = Arc::new(AtomicU64::new(0));
    let nodes: Nodes = HashMap::from([
        (
            "a".to_owned(),
            Box::new(Source(1000, made.clone())) as Box<dyn Node>,
        ),
        ("b".to_owned(), Box::new(Stuck(Arc::default()))),
    ]);
    let (graph, cancel) = (graph("a>b"), CancellationToken::new());
    let (result, ()) = tokio::join!(run(&graph, nodes, cancel.clone()), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    assert!(matches!(result, Err(RunError::Cancelled)));
    assert_eq!(
        made.load(Ordering::Relaxed),
        3,
        "two on the edge, one waiting"
    );
}

#[tokio::test]
async fn a_failure_ends_all_nodes_and_is_told() {
    for (text, panics) in [("bad item 1", false), ("it panicked: bad item 1", true)] {
        let dropped = Arc::new(AtomicU64::new(0));
        let fails = map(move |values| match values[0].as_u64() {
            Some(1) if panics => panic!("bad item 1"),
            Some(1) => Err("bad item 1".to_owned()),
            _ => Ok(Some(Value::Null)),
        });
        let stuck = Box::new(Stuck(dropped.clone()));
        let nodes = [
            ("a", source(u64::MAX)),
            ("b", fails),
            ("c", sink(&Seen::default())),
            ("d", stuck),
        ];
        let error = go("a>b b>c a>d", nodes).await.unwrap_err();
        assert_eq!(error.to_string(), format!("node \"b\" failed: {text}"));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn what_is_out_of_order_is_not_zipped() {
    let nodes = [
        ("a", source(3)),
        ("b", number(Some)),
        ("any", number(Some)),
        ("z", sink(&Seen::default())),
    ];
    let error = go("a>b a>any b>any any>z a>z", nodes).await.unwrap_err();
    assert!(
        error.to_string().contains("input 0 is out of order"),
        "{error}"
    );
}

#[tokio::test]
async fn nodes_and_graph_must_fit() {
    let error = go("a>b", [("a", source(1))]).await.unwrap_err();
    assert!(matches!(error, RunError::Missing(name) if name == "b"));
    let nodes = [("a", source(1)), ("b", source(1)), ("c", source(1))];
    assert!(matches!(go("a>b", nodes).await, Err(RunError::Unknown(name)) if name == "c"));
}
