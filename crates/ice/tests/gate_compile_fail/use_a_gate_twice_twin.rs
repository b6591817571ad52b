use ringtrue_ice::{Gate, PathProof};

fn twice(gate: Gate, first: PathProof, _second: PathProof) {
    let _ = gate.open(first);
}

fn main() {
    let _ = twice;
}
