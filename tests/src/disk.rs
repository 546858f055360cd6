//! A disk that can be full: a small tmpfs.

use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::scratch::Scratch;

/// A small disk, unmounted when dropped.
#[derive(Debug)]
pub struct Disk(Scratch);

impl Disk {
    /// Mounts one with so many bytes; `None`, said in a line, where that is not allowed.
    pub fn mount(size: u64) -> Option<Self> {
        let folder = Scratch::new();
        let options = format!("size={size},mode=755");
        let flags = MsFlags::empty();
        match mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            flags,
            Some(&*options),
        ) {
            Ok(()) => Some(Self(folder)),
            Err(error) => {
                println!("skipped: a tmpfs cannot be mounted here: {error}");
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file until the disk is full; gives the file.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn fill(&self) -> std::path::PathBuf {
        let path = self.path().join("filling");
        let block = vec![0xaa; 1 << 16];
        let mut file = fs::File::create(&path).expect("cannot fill the disk");
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}
