//! What the types forbid: a ring without a proof, a proof used twice, a proof made elsewhere.
//!
//! Each forbidden file stands beside a twin that compiles and differs in the forbidden thing
//! alone, so that no file fails for another reason; and the compiler's error code is asserted.
//! The compiler's prose is not: it changes with its version.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Forbidden file, its error code.
const FORBIDDEN: &[(&str, &str)] = &[
    ("clone_a_proof", "E0308"),
    ("clone_a_ring", "E0308"),
    ("construct_a_proof", "E0451"),
    ("construct_a_ring", "E0451"),
    ("construct_a_gate", "E0451"),
    ("construct_by_function", "E0624"),
    ("default_proof", "E0277"),
    ("default_ring", "E0277"),
    ("use_a_gate_twice", "E0382"),
    ("use_a_proof_twice", "E0382"),
    ("proof_by_reference", "E0308"),
];

const DIRECTORY: &str = "tests/gate_compile_fail";

fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("gate_compile_fail")
}

/// Compiles copies of the files in a process of its own, in which trybuild writes down what the
/// compiler said instead of comparing it; then reads the codes.
#[test]
fn the_gate_has_two_ways_and_no_third() {
    fs::create_dir_all(scratch()).unwrap();
    for (name, _) in FORBIDDEN {
        let file = format!("{name}.rs");
        fs::copy(Path::new(DIRECTORY).join(&file), scratch().join(&file)).unwrap();
        let _ = fs::remove_file(scratch().join(format!("{name}.stderr")));
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "compile"])
        .env("TRYBUILD", "overwrite")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for (name, code) in FORBIDDEN {
        let said = fs::read_to_string(scratch().join(format!("{name}.stderr"))).unwrap();
        assert!(
            said.starts_with(&format!("error[{code}]")),
            "{name} is forbidden with {code}, but the compiler said:\n{said}"
        );
    }
}

#[test]
#[ignore = "run by the_gate_has_two_ways_and_no_third, in a process of its own"]
fn compile() {
    let cases = trybuild::TestCases::new();
    for (name, _) in FORBIDDEN {
        cases.pass(format!("{DIRECTORY}/{name}_twin.rs"));
        cases.compile_fail(scratch().join(format!("{name}.rs")));
    }
}

#[test]
fn every_file_is_listed() {
    let mut listed: Vec<String> = FORBIDDEN
        .iter()
        .flat_map(|(name, _)| [format!("{name}.rs"), format!("{name}_twin.rs")])
        .collect();
    listed.sort();
    let mut found: Vec<String> = fs::read_dir(DIRECTORY)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(listed, found);
}
