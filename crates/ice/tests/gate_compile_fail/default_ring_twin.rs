use ringtrue_ice::GatherConfig;

fn needs_default<T: Default>() {}

fn main() {
    needs_default::<GatherConfig>();
}
