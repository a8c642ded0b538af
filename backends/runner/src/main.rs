//! The program that a compiled model is appended to: it finds the model in its own file and runs it. All of it is in the
//! library.

fn main() {
    runner::program::run()
}
