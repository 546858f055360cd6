//! What an ELF file says about itself.

use std::fs::File;
use std::path::Path;

use object::elf::{ET_DYN, ET_EXEC};
use object::read::ReadCache;
use object::read::elf::{ElfFile32, ElfFile64, FileHeader};
use object::{Architecture, Endianness, FileKind, Object, ObjectSymbol};

use super::Look;

/// Looks at an ELF file: its kind, for which processor it is, and which of these symbols it exports.
pub(super) fn look(entry: &Path, symbols: &[&str]) -> Look {
    let broken = |problem: String| Look::broken("ELF file", problem);
    let file = match File::open(entry) {
        Ok(file) => file,
        Err(error) => return broken(format!("it cannot be read: {error}")),
    };
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let cache = ReadCache::new(file);
    let truncated = |error: &object::Error| {
        broken(format!(
            "it is no whole ELF file: {error} (it has {size} bytes; was it copied to its end?)"
        ))
    };
    match FileKind::parse(&cache) {
        Ok(FileKind::Elf64) => match ElfFile64::<Endianness, _>::parse(&cache) {
            Ok(elf) => {
                let kind = elf.elf_header().e_type(elf.endian());
                seen(&elf, kind, symbols)
            }
            Err(error) => truncated(&error),
        },
        Ok(FileKind::Elf32) => match ElfFile32::<Endianness, _>::parse(&cache) {
            Ok(elf) => {
                let kind = elf.elf_header().e_type(elf.endian());
                seen(&elf, kind, symbols)
            }
            Err(error) => truncated(&error),
        },
        Ok(_) | Err(_) if size < 64 => broken(format!("it is no ELF file: it has {size} bytes")),
        Ok(_) | Err(_) => broken("it is no ELF file: it does not begin as one".to_owned()),
    }
}

fn seen<'data>(elf: &impl Object<'data>, kind: u16, symbols: &[&str]) -> Look {
    let architecture = elf.architecture();
    let name = match architecture {
        Architecture::X86_64 => "x86-64".to_owned(),
        Architecture::Aarch64 => "ARM64".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let what = match kind {
        ET_DYN => "shared object",
        ET_EXEC => "executable",
        _ => "object file",
    };
    let found: Vec<String> = elf
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|name| symbols.contains(&name.as_str()))
        .collect();
    let problem = (architecture != own()).then(|| {
        format!(
            "it was made for {name}, and this machine is {}: build it for this one",
            std::env::consts::ARCH.replace("x86_64", "x86-64")
        )
    });
    Look {
        what: format!("{what} for {name}"),
        architecture: Some(name),
        symbols: found,
        problem,
    }
}

/// The processor of this machine.
fn own() -> Architecture {
    if cfg!(target_arch = "x86_64") {
        Architecture::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Architecture::Aarch64
    } else {
        Architecture::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_beginning_of_a_program_is_told_apart_from_the_whole() {
        let whole = std::fs::read("/bin/true").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let problem = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            look(&path, &[]).problem
        };
        assert_eq!(problem(&whole), None);
        for size in [0, 3, 4, 20, 63, 64, 200, whole.len() / 2] {
            let told = problem(&whole[..size]).unwrap_or_else(|| panic!("{size} bytes"));
            assert!(told.contains(&format!("{size} bytes")), "{told}");
        }
        let mut other = whole.clone();
        other[18] = 243; // RISC-V
        let told = problem(&other).unwrap();
        assert!(told.contains("made for riscv64"), "{told}");
    }
}
