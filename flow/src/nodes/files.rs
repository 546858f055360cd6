//! Files as items: they are carried between the pipeline and the hosts of its nodes.

use runner_host::protocol::{Carried, NodeRequest};
use runner_pipeline::{Argument, Failure};
use serde_json::{Value, json};

use super::Opener;

/// Where the file is that an item stands for.
pub(crate) fn path_of(item: &Value) -> Option<&str> {
    let item = item.as_object()?;
    let path = item.get("path")?.as_str()?;
    let is_file = item.get("name")?.is_string() && item.get("dataType")?.is_string();
    is_file.then_some(path)
}

impl Opener {
    /// An item whose file a host can read; none if it is no file.
    pub(super) async fn give(
        &self,
        host: u64,
        argument: &Argument,
    ) -> Result<Option<Argument>, Failure> {
        let Some(path) = path_of(&argument.item) else {
            return Ok(None);
        };
        let request = NodeRequest {
            host: Some(host),
            give: vec![path.to_owned()],
            ..NodeRequest::default()
        };
        let mut given = argument.clone();
        let mut carried = self.carry(request).await?;
        if let Some(one) = carried.pop() {
            given.item["path"] = json!(one.path);
        }
        Ok(Some(given))
    }

    /// Lets go of the file of an item that was given.
    pub(super) async fn forget(&self, host: u64, given: &Argument) {
        let Some(path) = path_of(&given.item) else {
            return;
        };
        let request = NodeRequest {
            host: Some(host),
            forget: vec![path.to_owned()],
            ..NodeRequest::default()
        };
        // Else it goes with the host.
        let _ = self.carry(request).await;
    }

    /// Takes the files among values that a host has made.
    pub(super) async fn take(&self, host: u64, values: &mut [Value]) -> Result<(), Failure> {
        let files = values.iter().filter_map(|value| {
            Some((
                path_of(value)?.to_owned(),
                value["name"].as_str()?.to_owned(),
            ))
        });
        let (paths, names): (Vec<String>, Vec<String>) = files.unzip();
        if paths.is_empty() {
            return Ok(());
        }
        let request = NodeRequest {
            host: Some(host),
            take: paths,
            names,
            ..NodeRequest::default()
        };
        let carried = self.carry(request).await?;
        let files = values.iter_mut().filter(|value| path_of(value).is_some());
        for (value, Carried { path, size, url }) in files.zip(carried) {
            (value["path"], value["size"]) = (json!(path), json!(size));
            if let Some(url) = url {
                value["url"] = json!(url);
            }
        }
        Ok(())
    }

    async fn carry(&self, request: NodeRequest) -> Result<Vec<Carried>, Failure> {
        let count = request.give.len() + request.take.len();
        let carried = self.hosts.open(request).await;
        let (answer, _) = carried.map_err(Failure::passing)?;
        match answer.carried.len() == count {
            true => Ok(answer.carried),
            false => Err(Failure::lasting("its files cannot be carried here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_a_file_by_its_path_name_and_type() {
        let file = json!({"name": "a", "dataType": "custom/a", "path": "/x/a", "size": 3});
        assert_eq!(path_of(&file), Some("/x/a"));
        for other in [
            json!("/x/a"),
            json!({"path": "/x/a"}),
            json!({"name": "a", "dataType": "custom/a", "url": "http://x/a"}),
            json!({"name": "a", "dataType": "custom/a", "path": 7}),
        ] {
            assert_eq!(path_of(&other), None, "{other}");
        }
    }
}
