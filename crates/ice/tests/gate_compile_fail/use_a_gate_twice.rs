use ringtrue_ice::{Gate, PathProof};

fn twice(gate: Gate, first: PathProof, second: PathProof) {
    let _ = gate.open(first);
    let _ = gate.open(second);
}

fn main() {
    let _ = twice;
}
