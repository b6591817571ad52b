use ringtrue_ice::{Gate, PathProof};

fn lend(gate: Gate, proof: &PathProof) {
    let _ = gate.open(proof);
}

fn main() {
    let _ = lend;
}
