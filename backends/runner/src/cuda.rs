//! The same program for models on GPUs: with CUDA's driver, which it looks for when it starts.

fn main() {
    runner::program::run()
}
