use ringtrue_ice::PathProof;

fn copy(proof: &PathProof) -> PathProof {
    proof.clone()
}

fn main() {
    let _ = copy;
}
