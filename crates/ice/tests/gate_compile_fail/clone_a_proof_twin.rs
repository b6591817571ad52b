use ringtrue_ice::PathProof;

fn copy(proof: &PathProof) -> &PathProof {
    proof
}

fn main() {
    let _ = copy;
}
