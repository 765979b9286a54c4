//! Takes the programs of relay's README out of its text, for the examples that a test runs.

use std::path::Path;
use std::{env, fs};

const README: &str = "../relay/README.md";

fn main() {
    println!("cargo:rerun-if-changed={README}");
    let text = fs::read_to_string(README).expect("relay has a README");
    let out = env::var("OUT_DIR").expect("cargo names a folder");
    let mut blocks = text.split("```rust,ignore\n").skip(1);
    for program in ["visits", "service", "consumer"] {
        let block = blocks.next().and_then(|block| block.split("```").next());
        let code = block.unwrap_or_else(|| panic!("{README} has no block of Rust for {program}"));
        fs::write(Path::new(&out).join(format!("{program}.rs")), code).expect("it is written");
    }
}
