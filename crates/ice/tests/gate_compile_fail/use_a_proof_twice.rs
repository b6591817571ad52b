use ringtrue_ice::{Gate, PathProof};

fn twice(first: Gate, second: Gate, proof: PathProof) {
    let _ = first.open(proof);
    let _ = second.open(proof);
}

fn main() {
    let _ = twice;
}
