//! What is done to the runner.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::client::{BenchError, Client};
use crate::report::{Histogram, Report};
use crate::{Target, bare};

/// Tasks before measuring, so that hosts live and caches are warm.
const WARM_UP: usize = 20;

/// One client: from the POST to the answer that says SUCCESS.
pub(crate) async fn latency(target: &Target, report: &mut Report) -> Result<(), BenchError> {
    let mut client = Client::to(target).await?;
    for _ in 0..WARM_UP {
        run(&mut client, target).await?;
    }
    let mut times = Histogram::default();
    let end = Instant::now() + target.duration;
    while Instant::now() < end {
        let begin = Instant::now();
        run(&mut client, target).await?;
        times.add(begin.elapsed());
    }
    report.latency("POST to SUCCESS seen, one client", &times, Some(26.0));
    Ok(())
}

async fn run(client: &mut Client, target: &Target) -> Result<(), BenchError> {
    let task = client.submit(&target.plugin, &target.form).await?;
    client.finish(&task).await
}

/// Some clients, each POST to SUCCESS and again.
pub(crate) async fn closed_loop(target: &Target, report: &mut Report) -> Result<(), BenchError> {
    let begin = Instant::now();
    let end = begin + target.duration;
    let clients = (0..target.clients).map(|_| async move {
        let mut client = Client::to(target).await?;
        let mut times = Histogram::default();
        while Instant::now() < end {
            let begin = Instant::now();
            run(&mut client, target).await?;
            times.add(begin.elapsed());
        }
        Ok::<_, BenchError>(times)
    });
    let times = Histogram::merged(try_join_all(clients).await?);
    let name = format!("closed loop, {} clients", target.clients);
    report.rate(&name, "tasks/s", times.len(), begin.elapsed(), Some(60.0));
    report.latency(&format!("{name}: POST to SUCCESS"), &times, None);
    Ok(())
}

/// Many tasks at once, until all have succeeded.
pub(crate) async fn burst(target: &Target, report: &mut Report) -> Result<(), BenchError> {
    let begin = Instant::now();
    let share = target.burst.div_ceil(target.clients);
    let clients = (0..target.clients).map(|_| async move {
        let mut client = Client::to(target).await?;
        let mut tasks = Vec::with_capacity(share);
        for _ in 0..share {
            tasks.push(client.submit(&target.plugin, &target.form).await?);
        }
        for task in &tasks {
            client.finish(task).await?;
        }
        Ok::<_, BenchError>(tasks.len())
    });
    let count: usize = try_join_all(clients).await?.into_iter().sum();
    let name = format!("burst of {count} until all SUCCESS");
    report.rate(&name, "tasks/s", count, begin.elapsed(), Some(42.0));
    Ok(())
}

/// Many tasks at once, without waiting for any.
pub(crate) async fn fill(target: &Target, report: &mut Report) -> Result<(), BenchError> {
    let begin = Instant::now();
    let clients = (0..target.clients).map(|client| async move {
        let mut connection = Client::to(target).await?;
        let share = (client..target.burst).step_by(target.clients).len();
        for _ in 0..share {
            connection.submit(&target.plugin, &target.form).await?;
        }
        Ok::<_, BenchError>(share)
    });
    let count: usize = try_join_all(clients).await?.into_iter().sum();
    let name = format!("{count} tasks submitted");
    report.rate(&name, "tasks/s", count, begin.elapsed(), None);
    Ok(())
}

/// The reads that clients do most, each beside a bare handler with the same body.
pub(crate) async fn reads(target: &Target, report: &mut Report) -> Result<(), BenchError> {
    let mut client = Client::to(target).await?;
    let task = client.submit(&target.plugin, &target.form).await?;
    client.finish(&task).await?;
    for (name, path, reference) in [
        ("GET /plugins/", "/plugins/", 1283.0),
        ("GET /tasks/N/", task.as_str(), 581.0),
    ] {
        let body = client.get(path).await?.body;
        let size = body.len();
        let address = target.address;
        let (bare, server) = bare::serve(body)
            .await
            .map_err(|source| BenchError::Connection { address, source })?;
        let (count, took) = read(target, target.address, path).await?;
        let (most, limit) = read(target, bare, "/").await?;
        server.abort();
        let share = rate(count, took) / rate(most, limit);
        report.rate(
            &format!("{name} ({size} bytes)"),
            "requests/s",
            count,
            took,
            Some(reference),
        );
        report.share(&format!("{name}: share of a bare handler"), share);
    }
    Ok(())
}

async fn read(
    target: &Target,
    address: SocketAddr,
    path: &str,
) -> Result<(usize, Duration), BenchError> {
    let begin = Instant::now();
    let end = begin + target.duration;
    let clients = (0..target.clients).map(|_| {
        let path = path.to_owned();
        async move {
            let mut client = match address == target.address {
                true => Client::to(target).await?,
                false => Client::connect(address).await?,
            };
            let mut count = 0;
            while Instant::now() < end {
                client.get(&path).await?;
                count += 1;
            }
            Ok::<_, BenchError>(count)
        }
    });
    let count = try_join_all(clients).await?.into_iter().sum();
    Ok((count, begin.elapsed()))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
