//! Whether what was claimed is so.

use lgr::results::statistics::median;
use lgr::results::{Better, ScenarioResult};

use super::scenario::{Claim, Test};

/// Between a line of the table and what it asks for, in a comparison's name.
pub(crate) const SEPARATOR: &str = " | ";

/// Adds a comparison for each claim that there are samples for.
pub(crate) fn decide(result: &mut ScenarioResult, claims: &[Claim]) {
    for claim in claims {
        let name = format!("{}{SEPARATOR}{}", claim.row, claim.must);
        let Some(of) = best(result, claim.of, claim.metric) else { continue };
        match claim.test {
            Test::Alone(limit) => result.compare(&name, claim.metric, of, None, Some(limit)),
            Test::Against(others, limit) => {
                let Some(other) = best(result, others, claim.metric) else { continue };
                result.compare(&name, claim.metric, of, Some(other), Some(limit));
            }
        }
    }
}

/// Of these contestants the one with the best median.
fn best(result: &ScenarioResult, names: &[&'static str], metric: &str) -> Option<&'static str> {
    let higher = result.metrics.get(metric)?.better == Better::Higher;
    let value = |name: &str| median(&result.contestant(name)?.values(metric));
    let with_values = names.iter().filter_map(|name| Some((*name, value(name)?)));
    let order =
        |a: &(&str, f64), b: &(&str, f64)| if higher { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) };
    with_values.max_by(order).map(|(name, _)| name)
}
