use ringtrue_ice::PathProof;

fn needs_default<T: Default>() {}

fn main() {
    needs_default::<PathProof>();
}
