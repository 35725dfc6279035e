//! Prefixes that wrappers of PyTorch put in front of every name of a state dict.

use super::TensorEntry;

/// `DataParallel` and `DistributedDataParallel`, trainers that keep the network in a field `model`, and `torch.compile`.
const PREFIXES: [&str; 3] = ["module.", "model.", "_orig_mod."];

/// Parts of the network, which the names of its parameters begin with.
pub(crate) const PARTS: [&str; 5] = [
    "aggregator.",
    "camera_head.",
    "depth_head.",
    "point_head.",
    "track_head.",
];

/// Drops the prefix that all names have in common, also one made of several; else the one that all parameters of the
/// network have in common, where others lie beside them.
pub(super) fn drop_common(tensors: &mut [(String, TensorEntry)]) {
    let Some((first, _)) = tensors.first() else {
        return;
    };
    let shared = prefix_of(first).to_owned();
    let shared = longest_shared(&shared, tensors.iter().map(|(name, _)| name.as_str()));
    if !shared.is_empty() {
        let len = shared.len();
        tensors
            .iter_mut()
            .for_each(|(name, _)| drop(name.drain(..len)));
        return;
    }
    let part = |name: &str| {
        let rest = &name[prefix_of(name).len()..];
        PARTS.iter().any(|part| rest.starts_with(part))
    };
    let mut of_network = tensors.iter().filter(|(name, _)| part(name));
    let Some(prefix) = of_network
        .next()
        .map(|(name, _)| prefix_of(name).to_owned())
    else {
        return;
    };
    if of_network.all(|(name, _)| prefix_of(name) == prefix) {
        for (name, _) in tensors.iter_mut().filter(|(name, _)| part(name)) {
            name.drain(..prefix.len());
        }
    }
}

/// The longest run of [`PREFIXES`] that `name` begins with.
fn prefix_of(name: &str) -> &str {
    let mut rest = name;
    while let Some(shorter) = PREFIXES.iter().find_map(|p| rest.strip_prefix(p)) {
        rest = shorter;
    }
    &name[..name.len() - rest.len()]
}

/// The longest run of prefixes in `prefix` that all names begin with and that leaves something of each.
fn longest_shared<'a>(prefix: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut shared = prefix;
    while !shared.is_empty() {
        let mut names = names.clone();
        if names.all(|name| name.len() > shared.len() && name.starts_with(shared)) {
            break;
        }
        // Without its last word.
        let inner = &shared[..shared.len() - 1];
        shared = inner.rfind('.').map_or("", |dot| &inner[..=dot]);
    }
    shared.to_owned()
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    fn dropped(names: &[&str]) -> Vec<String> {
        let entry = TensorEntry {
            dtype: DType::F32,
            shape: Vec::new(),
            source: 0,
            range: 0..0,
            stride: None,
        };
        let mut tensors: Vec<_> = names
            .iter()
            .map(|name| ((*name).to_owned(), entry.clone()))
            .collect();
        drop_common(&mut tensors);
        tensors.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_prefix_that_all_names_have_is_dropped() {
        for prefix in [
            "module.",
            "model.",
            "_orig_mod.",
            "module._orig_mod.",
            "model.module.",
        ] {
            let names = [
                format!("{prefix}aggregator.x"),
                format!("{prefix}camera_head.y"),
            ];
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(
                dropped(&names),
                ["aggregator.x", "camera_head.y"],
                "{prefix}"
            );
        }
    }

    #[test]
    fn names_that_only_some_have_a_prefix_of_are_kept() {
        let mixed = ["module.aggregator.x", "camera_head.y"];
        assert_eq!(dropped(&mixed), mixed);
        let plain = ["aggregator.x", "camera_head.y"];
        assert_eq!(dropped(&plain), plain);
        assert_eq!(dropped(&["module.a", "module.model.b"]), ["a", "model.b"]);
        assert_eq!(dropped(&["module.", "module.a"]), ["module.", "module.a"]);
        assert_eq!(dropped(&[]), [""; 0]);
    }

    #[test]
    fn what_lies_beside_the_network_does_not_matter() {
        let names = ["step", "module.aggregator.x", "module.track_head.y"];
        assert_eq!(dropped(&names), ["step", "aggregator.x", "track_head.y"]);
    }
}
