use ringtrue_ice::Ring;

fn needs_default<T: Default>() {}

fn main() {
    needs_default::<Ring>();
}
