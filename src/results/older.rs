//! What a result of an older version says, in the words of this one.

use std::collections::BTreeMap;

use super::metrics::{THROUGHPUT, TOTAL, TRANSFER, TRANSFER_RATE};
use super::{SCHEMA_VERSION, ScenarioResult};

/// Version 2 began the total with the first pass: what it called so is a part of what is called so now. A total is not
/// made up for it.
const RENAMED: [(&str, &str); 2] = [(TOTAL, TRANSFER), (THROUGHPUT, TRANSFER_RATE)];

pub(super) fn of_version_2(result: &mut ScenarioResult) {
    result.schema_version = SCHEMA_VERSION;
    rename_keys(&mut result.metrics);
    rename(&mut result.main_metric);
    for contestant in &mut result.contestants {
        rename_keys(&mut contestant.summary);
        contestant.samples.iter_mut().for_each(|sample| rename_keys(&mut sample.metrics));
    }
    result.comparisons.iter_mut().for_each(|comparison| rename(&mut comparison.metric));
}

fn rename(name: &mut String) {
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| old == name) {
        *name = (*new).to_owned();
    }
}

fn rename_keys<T>(map: &mut BTreeMap<String, T>) {
    for (old, new) in RENAMED {
        if let Some(value) = map.remove(old) {
            map.insert(new.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_of_version_2_keeps_its_figures_under_the_name_of_what_they_measured() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/bench-results/amd-epyc-2-cores/bulk-random.json");
        let text = std::fs::read_to_string(path).unwrap();
        let old: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(old["schema_version"], 2);
        let result = ScenarioResult::from_json(&text).unwrap();
        assert_eq!((result.schema_version, result.main_metric.as_str()), (SCHEMA_VERSION, TRANSFER_RATE));
        for (at, contestant) in result.contestants.iter().enumerate() {
            let then = &old["contestants"][at]["samples"][0]["metrics"];
            let now = &contestant.samples[0].metrics;
            assert_eq!(then["total_ms"].as_f64(), now.get(TRANSFER).copied());
            assert!(!now.contains_key(TOTAL), "a total that began with the wish was not measured");
        }
    }
}
