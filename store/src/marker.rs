//! Which file store belongs to a database. All processes must see the same one, or outputs of a worker would be
//! lost to the server: a file in it and a row say the same, or the process does not start.

use crate::file_store::{hexadecimal, random};
use crate::files::blocking;
use crate::recent::Recent;
use crate::sql::{Ask as _, Connection, Statement, args};
use crate::writer::Write;
use crate::{Store, StoreError};

/// There is one file store.
const NAME: &str = "files";

impl Store {
    /// Makes sure that the file store is that of this database; the first one becomes it. `host` is the name of
    /// this machine, for those who are told of a difference.
    ///
    /// # Errors
    /// [`StoreError::OtherFiles`], or what could not be read or written.
    pub async fn check_file_store(&self, host: &str) -> Result<(), StoreError> {
        let files = self.files().clone();
        let new = hexadecimal(&random::<16>());
        let marker = blocking(move || files.marker(&new)).await?;
        let here = self.files().shown();
        let known = self
            .writer()
            .write(Adopt {
                marker: marker.clone(),
                host: host.to_owned(),
                path: here.clone(),
            })
            .await?;
        if let Some((host, there)) = known {
            return Err(StoreError::OtherFiles { here, there, host });
        }
        // Asked twice, it is the same.
        let _known = self.marker().set(marker);
        Ok(())
    }

    /// Looks whether the file store is still the one that [`check_file_store`](Self::check_file_store) saw: the
    /// folder may be a volume that was taken away.
    pub(crate) fn check_marker(&self) -> Result<(), StoreError> {
        let found = self.files().known_marker()?;
        match self.marker().get() {
            Some(known) if found.as_ref() != Some(known) => {
                Err(StoreError::FilesChanged(self.files().shown()))
            }
            _ => Ok(()),
        }
    }
}

struct Adopt {
    marker: String,
    host: String,
    path: String,
}

static ADOPT: Statement = Statement::new(
    "INSERT INTO file_stores (name, marker, host, path) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT (name) DO NOTHING",
)
.mysql("INSERT IGNORE INTO file_stores (name, marker, host, path) VALUES (?1, ?2, ?3, ?4)");

static KNOWN: Statement =
    Statement::new("SELECT marker, host, path FROM file_stores WHERE name = ?1");

impl Write for Adopt {
    /// Host and path of the one that is known, if it is another one.
    type Answer = Option<(String, String)>;

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<Self::Answer, StoreError> {
        let failed = |source| StoreError::sql("looking whose the file store is", source);
        let row = [NAME, &self.marker, &self.host, &self.path].map(Into::into);
        connection.execute(&ADOPT, &row).await.map_err(failed)?;
        let known = connection.row(&KNOWN, args![NAME]).await.map_err(failed)?;
        let Some(known) = known else {
            return Ok(None);
        };
        let marker: String = known.get(0).map_err(failed)?;
        if marker == self.marker {
            return Ok(None);
        }
        Ok(Some((
            known.get(1).map_err(failed)?,
            known.get(2).map_err(failed)?,
        )))
    }
}
