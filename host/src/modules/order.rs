//! In which order modules are loaded that need each other, and which are not.

use std::collections::BTreeMap;

use crate::manifest::Manifest;

/// Of several modules that provide one name, the one with the highest is loaded; this is that of those that say
/// none.
const USUAL_PRIORITY: i64 = 100;

/// A module that is to be loaded.
pub(super) struct Wish<'a> {
    /// Its instance name.
    pub(super) name: &'a str,
    /// What it says; `None` where it cannot be loaded anyway.
    pub(super) manifest: Option<&'a Manifest>,
}

/// For each module the wave in which it is loaded, all of one at once and after those before; or why it is not
/// loaded.
pub(super) fn waves(
    wishes: &[Wish<'_>],
    has_env: &dyn Fn(&str) -> bool,
) -> Vec<Result<usize, String>> {
    let chosen = chosen(wishes);
    let resolve = |name: &str| {
        let named = wishes.iter().position(|wish| wish.name == name);
        named.or_else(|| chosen.get(name).copied())
    };
    let mut refused: Vec<Option<String>> = vec![None; wishes.len()];
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); wishes.len()];
    for (index, wish) in wishes.iter().enumerate() {
        let Some(manifest) = wish.manifest else {
            continue;
        };
        let beaten = manifest
            .provides
            .iter()
            .find(|name| chosen.get(name.as_str()) != Some(&index));
        let missing = manifest
            .requires
            .iter()
            .find(|name| resolve(name).is_none());
        refused[index] = if let Some(variable) = lacking(manifest, has_env) {
            Some(needs_variable(variable))
        } else if let Some(name) = beaten {
            let winner = chosen
                .get(name.as_str())
                .map_or("", |own| wishes[*own].name);
            Some(format!(
                "the module {winner} provides {name}, too, and comes before it (load_priority)"
            ))
        } else {
            missing.map(|name| format!("it requires {name:?}, which no module is or provides"))
        };
        let others = manifest.requires.iter().chain(&manifest.after);
        before[index] = others.filter_map(|name| resolve(name)).collect();
    }
    let mut found: Vec<Option<usize>> = vec![None; wishes.len()];
    loop {
        let mut is_stuck = true;
        for index in 0..wishes.len() {
            if found[index].is_none() {
                let mut waits = before[index]
                    .iter()
                    .map(|other| found[*other].map(|wave| wave + 1));
                let wave = waits.try_fold(0, |most: usize, wave| Some(most.max(wave?)));
                is_stuck &= wave.is_none();
                found[index] = wave;
            }
        }
        if is_stuck {
            break;
        }
    }
    let outcome = found.iter().enumerate().map(|(index, wave)| match wave {
        _ if refused[index].is_some() => Err(refused[index].take().unwrap_or_default()),
        Some(wave) => Ok(*wave),
        None => Err(circle(index, wishes, &before, &found)),
    });
    outcome.collect()
}

/// A variable that a module needs and that is not set.
pub(super) fn lacking<'a>(
    manifest: &'a Manifest,
    has_env: &dyn Fn(&str) -> bool,
) -> Option<&'a str> {
    let is_lacking = |name: &&String| !has_env(name) && !manifest.environment.contains_key(*name);
    manifest
        .needs_env
        .iter()
        .find(is_lacking)
        .map(String::as_str)
}

pub(super) fn needs_variable(variable: &str) -> String {
    format!("it needs the environment variable {variable}, which is not set")
}

/// Which module provides a name.
fn chosen<'a>(wishes: &'a [Wish<'_>]) -> BTreeMap<&'a str, usize> {
    let mut chosen: BTreeMap<&str, (i64, usize)> = BTreeMap::new();
    for (index, wish) in wishes.iter().enumerate() {
        let Some(manifest) = wish.manifest else {
            continue;
        };
        let priority = manifest.load_priority.unwrap_or(USUAL_PRIORITY);
        for name in &manifest.provides {
            let best = chosen.entry(name).or_insert((priority, index));
            if priority > best.0 {
                *best = (priority, index);
            }
        }
    }
    let chosen = chosen.into_iter();
    chosen.map(|(name, (_, index))| (name, index)).collect()
}

/// Names the circle in which a module is, or that it waits for.
fn circle(
    start: usize,
    wishes: &[Wish<'_>],
    before: &[Vec<usize>],
    found: &[Option<usize>],
) -> String {
    let mut way = vec![start];
    loop {
        let last = way[way.len() - 1];
        // Each that has no wave waits for one that has none.
        let Some(next) = before[last].iter().find(|other| found[**other].is_none()) else {
            return "modules wait for each other".to_owned();
        };
        let begin = way.iter().position(|index| index == next);
        way.push(*next);
        if let Some(begin) = begin {
            let names: Vec<&str> = way[begin..]
                .iter()
                .map(|index| wishes[*index].name)
                .collect();
            return format!(
                "modules wait for each other in a circle: {}",
                names.join(" -> ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(manifests: &[(&str, &str)]) -> Vec<Result<usize, String>> {
        let read = |text: &str| toml::from_str::<Manifest>(text).unwrap();
        let manifests: Vec<_> = manifests
            .iter()
            .map(|(name, text)| (*name, read(text)))
            .collect();
        let wishes: Vec<_> = manifests
            .iter()
            .map(|(name, manifest)| Wish {
                name,
                manifest: Some(manifest),
            })
            .collect();
        waves(&wishes, &|name| name == "SET")
    }

    #[test]
    fn what_is_required_comes_first_and_what_is_missing_is_named() {
        let found = order(&[
            ("c", "requires = [\"b\"]"),
            ("a", ""),
            ("b", "after = [\"a\", \"nobody\"]"),
            ("d", "requires = [\"nobody\"]"),
        ]);
        assert_eq!(found[..3], [Ok(2), Ok(0), Ok(1)]);
        let problem = found[3].as_ref().unwrap_err();
        assert!(problem.contains("\"nobody\""), "{problem}");
    }

    #[test]
    fn circles_are_named_also_for_who_waits_for_one() {
        let found = order(&[
            ("x", "after = [\"a\"]"),
            ("a", "after = [\"b\"]"),
            ("b", "requires = [\"a\"]"),
            ("self", "after = [\"self\"]"),
            ("free", ""),
        ]);
        let problem = |index: usize| found[index].as_ref().unwrap_err().as_str();
        assert!(problem(0).ends_with("a -> b -> a"), "{}", problem(0));
        assert!(problem(1).ends_with("a -> b -> a"), "{}", problem(1));
        assert!(problem(2).ends_with("b -> a -> b"), "{}", problem(2));
        assert!(problem(3).ends_with("self -> self"), "{}", problem(3));
        assert_eq!(found[4], Ok(0));
    }

    #[test]
    fn of_several_that_provide_a_name_the_highest_priority_is_loaded() {
        let found = order(&[
            ("slow", "provides = [\"solver\"]"),
            ("fast", "provides = [\"solver\"]\nload_priority = 200"),
            ("user", "requires = [\"solver\"]"),
        ]);
        let problem = found[0].as_ref().unwrap_err();
        assert!(
            problem.contains("the module fast provides solver"),
            "{problem}"
        );
        assert_eq!(found[1..], [Ok(0), Ok(1)]);
    }

    #[test]
    fn variables_that_are_not_set_are_named() {
        let found = order(&[
            ("a", "needs-env = [\"SET\"]"),
            ("b", "needs-env = [\"SET\", \"UNSET\"]"),
            ("c", "needs_env = [\"OWN\"]\nenvironment = {OWN = \"1\"}"),
        ]);
        assert_eq!((&found[0], &found[2]), (&Ok(0), &Ok(0)));
        assert!(found[1].as_ref().unwrap_err().contains("UNSET"));
    }
}
