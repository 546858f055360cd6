use std::collections::BTreeSet;
use std::time::Duration;

use runner_store::Permalink;

use crate::Fixture;
use crate::databases::On;

on_each_database!(
    a_permalink_is_read_back_and_the_same_cell_has_the_same_one,
    those_that_are_made_at_once_are_one,
    what_is_no_address_leads_nowhere,
    those_that_nobody_reads_are_removed,
);

fn cell(code: &str) -> Permalink {
    Permalink {
        code: code.to_owned(),
        language: "python".to_owned(),
        interacts: "[]".to_owned(),
    }
}

async fn a_permalink_is_read_back_and_the_same_cell_has_the_same_one(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let odd = cell("print('ä 👩‍👩‍👧 \\ ? ?1 {now}')\n\t# end ");
    let query = store.make_permalink(odd.clone()).await.unwrap();
    assert!(query.len() >= 12, "{query}");
    assert_eq!(store.permalink(&query).await.unwrap(), Some(odd.clone()));
    assert_eq!(store.make_permalink(odd.clone()).await.unwrap(), query);
    let other = Permalink {
        language: "lua".to_owned(),
        ..odd.clone()
    };
    assert_ne!(store.make_permalink(other).await.unwrap(), query);
    // What stands at the border of two fields belongs to one of them.
    let moved = Permalink {
        code: format!("{}p", odd.code),
        language: "ython".to_owned(),
        ..odd
    };
    assert_ne!(store.make_permalink(moved).await.unwrap(), query);
    let long = cell(&"ä".repeat(65_000));
    let query = store.make_permalink(long.clone()).await.unwrap();
    assert_eq!(store.permalink(&query).await.unwrap(), Some(long));
}

async fn those_that_are_made_at_once_are_one(on: On) {
    let fixture = Fixture::new(on).await;
    let made = (0..20).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.make_permalink(cell("1")).await.unwrap() })
    });
    let mut queries = BTreeSet::new();
    for one in made.collect::<Vec<_>>() {
        queries.insert(one.await.unwrap());
    }
    assert_eq!(queries.len(), 1);
}

async fn what_is_no_address_leads_nowhere(on: On) {
    let fixture = Fixture::new(on).await;
    let long = "a".repeat(100_000);
    for query in ["", "nobody", "../../token", "\0", "ä", "%", long.as_str()] {
        assert_eq!(fixture.store.permalink(query).await.unwrap(), None);
    }
}

async fn those_that_nobody_reads_are_removed(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let query = store.make_permalink(cell("1")).await.unwrap();
    let removed = store.remove_permalinks(Duration::from_secs(60)).await;
    assert_eq!(removed.unwrap(), 0);
    assert!(store.permalink(&query).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let removed = store.remove_permalinks(Duration::from_millis(1)).await;
    assert_eq!(removed.unwrap(), 1);
    assert_eq!(store.permalink(&query).await.unwrap(), None);
}
