//! Each target takes what lies in its corpus: the seeds, and inputs that once broke it.

use std::fs;
use std::path::Path;

use fuzz::TARGETS;

#[test]
fn every_target_takes_its_corpus_and_every_corpus_has_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let folders = fs::read_dir(&corpus).expect("there are corpora").count();
    assert_eq!(folders, TARGETS.len(), "a folder of the corpus is no target's");
    for target in TARGETS {
        let inputs = fs::read_dir(corpus.join(target.name)).expect(target.name);
        let mut count = 0;
        for input in inputs {
            let path = input.expect("the folder can be read").path();
            (target.run)(&fs::read(&path).expect("the input can be read"));
            count += 1;
        }
        assert!(count >= 3, "{} has {count} inputs", target.name);
    }
}
