//! What the loop does when nothing changed: asked directly, because nothing can be waited for.

use std::fs;
use std::sync::Mutex;

use tempfile::tempdir;

use super::*;

#[derive(Default)]
struct Numbers(Mutex<Vec<u64>>);

impl Publisher for Numbers {
    fn publish(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<Diagnostic>> {
        self.0.lock().unwrap().push(snapshot.number);
        Ok(())
    }
}

const TEXT: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec:\n  hosts: [a.test]\n  \
                    ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  \
                    endpoints: [{address: 127.0.0.1}]\n";

#[test]
fn unchanged_texts_are_left_alone_and_refused_ones_are_not_tried_again() {
    let root = tempdir().unwrap();
    let path = root.path().join("mesh.yaml");
    fs::write(&path, TEXT).unwrap();
    let publisher = Arc::new(Numbers::default());
    let settings = Settings { paths: vec![path.clone()], ..Settings::default() };
    let (mut control, _) = Control::start(settings, Arc::clone(&publisher) as Arc<dyn Publisher>).unwrap();
    let counts = |control: &Control| {
        let status = control.handle.status();
        (status.generation, status.reloads_ok, status.reloads_failed)
    };
    fs::write(&path, TEXT).unwrap();
    control.reload(false);
    assert_eq!(counts(&control), (1, 0, 0), "the same text again");
    control.reload(true);
    assert_eq!(counts(&control), (2, 1, 0), "a command reloads all the same");
    fs::write(&path, "kind: [").unwrap();
    control.reload(false);
    control.reload(false);
    assert_eq!(counts(&control), (2, 1, 1), "the same bad text is reported once");
    fs::remove_file(&path).unwrap();
    control.reload(false);
    control.reload(false);
    assert_eq!(counts(&control), (2, 1, 2), "a missing file is reported once");
    fs::write(&path, TEXT).unwrap();
    control.reload(false);
    assert_eq!(counts(&control), (3, 2, 2), "what comes back is applied");
    assert_eq!(*publisher.0.lock().unwrap(), [1, 2, 3]);
}

#[test]
fn a_directory_that_was_not_watched_before_is_read_again_once_it_is() {
    let root = tempdir().unwrap();
    let conf = root.path().join("above/conf");
    fs::create_dir_all(&conf).unwrap();
    fs::write(conf.join("mesh.yaml"), TEXT).unwrap();
    let settings = Settings { paths: vec![conf.clone()], watch: true, ..Settings::default() };
    let (mut control, _) = Control::start(settings, Arc::new(Numbers::default())).unwrap();
    let now = Instant::now();
    control.watch_directories(now);
    assert_eq!(control.debounce.poll_timeout(), None, "nothing is new");
    fs::create_dir(conf.join("more")).unwrap();
    control.watch_directories(now);
    assert!(control.debounce.poll_timeout().is_some(), "files may have come before it was watched");
    assert_eq!(control.watch_retry, None);
    fs::remove_dir_all(root.path().join("above")).unwrap();
    control.watch_directories(now);
    assert!(control.watch_retry.is_some(), "what is gone may come back");
}
