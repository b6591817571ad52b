use ringtrue_ice::Pacer;

fn needs_default<T: Default>() {}

fn main() {
    needs_default::<Pacer>();
}
