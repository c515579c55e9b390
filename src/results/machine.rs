//! A name for the machine that gives nothing away: its processor and how many cores there are of it.

use lgr_engine::report::Environment;

use super::is_plain_name;

/// Words of processor names that tell nothing.
const EMPTY_WORDS: [&str; 6] = ["processor", "cpu", "core", "cores", "with", "radeon"];

/// The name of the folder for a machine's results, such as `amd-epyc-7763-2-cores`. It follows from the processor's
/// model and the number of cores alone.
pub fn machine_name(environment: &Environment) -> String {
    let model = environment.cpu_model.to_ascii_lowercase().replace("(r)", " ").replace("(tm)", " ");
    // Clock rates come after an @; they are no part of the model.
    let model = model.split('@').next().unwrap_or_default();
    let words = model
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && !EMPTY_WORDS.contains(word));
    let mut name = words.collect::<Vec<_>>().join("-");
    if name.is_empty() {
        name = "unknown-cpu".to_owned();
    }
    name.truncate(48);
    let cores = environment.cores;
    format!("{}-{cores}-core{}", name.trim_end_matches('-'), if cores == 1 { "" } else { "s" })
}

/// Checks a name for a machine that someone chose.
///
/// # Errors
/// What such a name may be.
pub fn check_machine_name(text: &str) -> Result<String, String> {
    if is_plain_name(text) {
        return Ok(text.to_owned());
    }
    Err("a machine's name has up to 64 small letters, digits and -, as in amd-epyc-2-cores".to_owned())
}

/// The revision of the source this was built from, `-modified` after it if it had changes that were not committed; what
/// `LGR_GIT_REVISION` said when it was not built from a repository, else `None`.
pub const fn git_revision() -> Option<&'static str> {
    option_env!("LGR_SOURCE_REVISION")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_has_the_model_and_the_cores_and_nothing_else() {
        for (cpu_model, cores, expected) in [
            ("AMD EPYC 7763 64-Core Processor", 2, "amd-epyc-7763-64-2-cores"),
            ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz", 8, "intel-xeon-platinum-8488c-8-cores"),
            ("AMD EPYC", 1, "amd-epyc-1-core"),
            ("", 4, "unknown-cpu-4-cores"),
            ("../../etc", 4, "etc-4-cores"),
        ] {
            let environment = Environment { cpu_model: cpu_model.to_owned(), cores, ..Environment::probe() };
            let name = machine_name(&environment);
            assert_eq!(name, expected);
            assert_eq!(check_machine_name(&name), Ok(name));
        }
    }

    #[test]
    fn a_chosen_name_cannot_leave_the_folder() {
        for text in ["", "..", "a/b", "A", "-x", "a b", &"a".repeat(65)] {
            assert!(check_machine_name(text).is_err(), "{text}");
        }
    }
}
