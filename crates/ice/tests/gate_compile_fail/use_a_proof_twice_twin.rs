use ringtrue_ice::{Gate, PathProof};

fn twice(first: Gate, second: Gate, proof: PathProof) {
    let _ = first.open(proof);
    drop(second);
}

fn main() {
    let _ = twice;
}
