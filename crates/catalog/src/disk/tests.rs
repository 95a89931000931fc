//! The store on a medium that loses power, fails and forgets: at every single step of a life with registrations,
//! deregistrations, restarts and compaction.
//!
//! Nothing acknowledged is lost, nothing deregistered is back, nothing is half there, and the store opens every time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use meshwright_registry::{Action, Expected, Instance, InstanceKey, Proposal, Reason, ServiceKey, Stage};

use super::*;

/// Sectors are written whole.
const SECTOR: usize = 512;

/// A change of a file that is not synced yet.
#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

/// What happens at which step. A step is a write, a change of the length, a sync or a renaming.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// The power fails before this step.
    Power(usize),
    /// So many steps from this one on fail with the error of this number.
    Errors(usize, usize, i32),
}

/// A disk with one directory.
struct World {
    files: Vec<Content>,
    /// The file as it is called now, and as it is called on the disk.
    name: Option<usize>,
    kept_name: Option<usize>,
    unfinished: Option<usize>,
    marked: u64,
    steps: usize,
    fault: Fault,
}

impl World {
    fn step(&mut self) -> io::Result<()> {
        let step = self.steps;
        self.steps += 1;
        match self.fault {
            Fault::Power(at) if step >= at => Err(io::Error::other("no power")),
            Fault::Errors(from, count, number) if (from..from + count).contains(&step) => {
                Err(io::Error::from_raw_os_error(number))
            }
            _ => Ok(()),
        }
    }

    /// The disk as it is after the power failed: of what was not synced, `keep` decides for every single change.
    fn after_power_failure(&self, mut keep: impl FnMut() -> Kept) -> Self {
        let name = match keep() {
            Kept::Lost => self.kept_name,
            _ => self.name,
        };
        let mut survive = |content: &Content| {
            let mut bytes = content.synced.clone();
            for change in &content.unsynced {
                let kept = keep();
                match change {
                    _ if matches!(kept, Kept::Lost) => {}
                    Change::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
                    Change::Write(offset, data) => {
                        let length = match kept {
                            Kept::Torn(part) => data.len() * part / 100 / SECTOR * SECTOR,
                            _ => data.len(),
                        };
                        overwrite(&mut bytes, *offset, &data[..length]);
                    }
                }
            }
            Content { now: bytes.clone(), synced: bytes, unsynced: Vec::new() }
        };
        let files = self.files.iter().map(&mut survive).collect();
        let unfinished = self.unfinished.filter(|file| Some(*file) != name);
        Self { files, name, kept_name: name, unfinished, marked: self.marked, steps: 0, fault: Fault::None }
    }
}

/// What became of a change that was not synced.
enum Kept {
    Lost,
    /// So much of it in percent.
    Torn(usize),
    Whole,
}

fn overwrite(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let offset = usize::try_from(offset).unwrap();
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

#[derive(Clone)]
struct Simulated(Arc<Mutex<World>>);

impl Simulated {
    fn new() -> Self {
        let (files, name, kept_name, unfinished) = (vec![], None, None, None);
        let world = World { files, name, kept_name, unfinished, marked: 0, steps: 0, fault: Fault::None };
        Self(Arc::new(Mutex::new(world)))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn file(&self, index: usize) -> SimulatedFile {
        SimulatedFile { world: self.clone(), index }
    }
}

impl Medium for Simulated {
    type File = SimulatedFile;

    fn claim(&mut self) -> Result<bool, OpenError> {
        Ok(false)
    }

    fn release(&mut self) {}

    fn mark(&mut self, revision: u64) {
        self.world().marked = revision;
    }

    fn marked(&self) -> u64 {
        self.world().marked
    }

    fn name(&self) -> PathBuf {
        PathBuf::from("simulated/registry.redb")
    }

    fn size(&self) -> Option<u64> {
        let world = self.world();
        world.name.map(|file| world.files[file].now.len() as u64)
    }

    fn open(&self) -> io::Result<SimulatedFile> {
        let name = self.world().name;
        name.map(|index| self.file(index)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn begin(&self) -> io::Result<SimulatedFile> {
        let mut world = self.world();
        world.step()?;
        world.files.push(Content::default());
        let index = world.files.len() - 1;
        world.unfinished = Some(index);
        drop(world);
        Ok(self.file(index))
    }

    fn publish(&self) -> io::Result<()> {
        let mut world = self.world();
        world.step()?;
        world.name = world.unfinished.take();
        world.step()?;
        world.kept_name = world.name;
        Ok(())
    }
}

struct SimulatedFile {
    world: Simulated,
    index: usize,
}

impl std::fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file {}", self.index)
    }
}

impl StorageBackend for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.world.world().files[self.index].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let world = self.world.world();
        let start = usize::try_from(offset).unwrap();
        let bytes = world.files[self.index].now.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut world = self.world.world();
        world.step()?;
        let content = &mut world.files[self.index];
        content.now.resize(usize::try_from(length).unwrap(), 0);
        content.unsynced.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.world.world();
        let synced = world.step();
        let content = &mut world.files[self.index];
        if synced.is_ok() {
            content.synced = content.now.clone();
        }
        // After a sync that failed, the kernel has forgotten what was to be written: a later one does not bring it back.
        content.unsynced.clear();
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut world = self.world.world();
        world.step()?;
        let content = &mut world.files[self.index];
        overwrite(&mut content.now, offset, data);
        content.unsynced.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// What is registered, and the revision.
type State = (BTreeMap<InstanceKey, Entry>, u64);

fn state(registry: &Registry) -> State {
    let entries = registry.services().flat_map(|(_, service)| service.instances());
    (entries.map(|entry| (entry.key.clone(), Entry::clone(entry))).collect(), registry.revision())
}

fn key(id: usize) -> InstanceKey {
    InstanceKey::new(ServiceKey::new("", "users").unwrap(), &format!("10.0.0.1:{id}")).unwrap()
}

fn register(id: usize, size: usize) -> Proposal {
    let mut instance = Instance::new("10.0.0.1", u16::try_from(id).unwrap());
    instance.metadata.insert("padding", &"x".repeat(size));
    Proposal { key: key(id), expected: Expected::Any, action: Action::Register(Box::new(instance)) }
}

fn deregister(id: usize) -> Proposal {
    Proposal { key: key(id), expected: Expected::Any, action: Action::Remove(Reason::Deregistered) }
}

/// One part of the life of a store.
enum Deed {
    Commit(Vec<Proposal>),
    /// It ends in order and starts again; a mostly empty file is made small when it has so many bytes.
    Restart(u64),
}

fn life() -> Vec<Deed> {
    use Deed::{Commit, Restart};
    vec![
        Commit(vec![register(1, 10)]),
        Commit(vec![register(2, 3000), register(3, 10)]),
        Commit(vec![register(1, 20)]),
        Commit(vec![deregister(2)]),
        Commit((10..50).map(|id| register(id, 2000)).collect()),
        Restart(u64::MAX),
        Commit((10..45).map(deregister).chain([register(4, 10)]).collect()),
        Commit(vec![register(2, 10), deregister(3)]),
        Restart(1),
        Commit(vec![deregister(2), register(5, 100)]),
    ]
}

/// Lives until the end, or until something fails while `patient` is false. Returns what was acknowledged, what was under way,
/// and how often a write failed.
fn live(medium: &Simulated, patient: bool) -> (State, State, usize) {
    let open = |compacted_from| Disk::on(medium.clone(), Limits::default(), compacted_from);
    let (mut disk, mut registry) = open(u64::MAX).unwrap();
    let mut failures = 0;
    for deed in life() {
        match deed {
            Deed::Commit(proposals) => {
                let mut stage = Stage::new(&registry);
                for proposal in proposals {
                    stage.propose(proposal).unwrap();
                }
                let events = stage.into_events();
                let mut after = registry.clone();
                events.iter().for_each(|event| after.apply(event.clone()));
                while let Err(error) = disk.commit(&registry, &events) {
                    failures += 1;
                    assert!(!error.0.is_empty());
                    if !patient {
                        return (state(&registry), state(&after), failures);
                    }
                    assert!(failures < 1000, "it does not recover: {error}");
                }
                registry = after;
            }
            Deed::Restart(compacted_from) => {
                drop(disk);
                let (again, kept) = loop {
                    match open(compacted_from) {
                        Ok(opened) => break opened,
                        Err(_) if !patient => return (state(&registry), state(&registry), failures + 1),
                        Err(error) => {
                            failures += 1;
                            assert!(matches!(error, OpenError::Unusable { .. }), "nothing is damaged: {error}");
                            assert!(failures < 1000, "it does not recover: {error}");
                        }
                    }
                };
                assert_eq!(state(&kept), state(&registry), "a restart changes nothing");
                disk = again;
            }
        }
    }
    (state(&registry), state(&registry), failures)
}

/// Opens what is left: it must be what was acknowledged, or that with what was under way; and it can be written to.
fn examine(left: World, acknowledged: &State, under_way: &State, what: &str) {
    let medium = Simulated(Arc::new(Mutex::new(left)));
    let opened = Disk::on(medium.clone(), Limits::default(), u64::MAX);
    let (mut disk, registry) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = state(&registry);
    assert!(found == *acknowledged || found == *under_way, "{what}: {found:?} instead of {acknowledged:?}");
    let mut stage = Stage::new(&registry);
    stage.propose(register(999, 10)).unwrap();
    let events = stage.into_events();
    disk.commit(&registry, &events).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(disk);
    let (_, again) = Disk::on(medium, Limits::default(), u64::MAX).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(again.len(), registry.len() + 1, "{what}");
}

fn steps_of_a_life() -> usize {
    let medium = Simulated::new();
    let (_, _, failures) = live(&medium, false);
    assert_eq!(failures, 0);
    medium.world().steps
}

/// Every `stride`-th step of a life.
fn power_fails(stride: usize, seeds: u64) {
    let steps = steps_of_a_life();
    assert!(steps > 60, "{steps} steps");
    for at in (0..=steps).step_by(stride) {
        let medium = Simulated::new();
        medium.world().fault = Fault::Power(at);
        let (acknowledged, under_way, _) = live(&medium, false);
        let world = medium.world();
        let lost = world.after_power_failure(|| Kept::Lost);
        examine(lost, &acknowledged, &under_way, &format!("step {at} of {steps}, all lost"));
        let kept = world.after_power_failure(|| Kept::Whole);
        examine(kept, &acknowledged, &under_way, &format!("step {at} of {steps}, all kept"));
        for seed in 0..seeds {
            let mut rng = fastrand::Rng::with_seed(seed * 10_007 + at as u64);
            let some = world.after_power_failure(|| match rng.u8(0..3) {
                0 => Kept::Lost,
                1 => Kept::Torn(rng.usize(0..100)),
                _ => Kept::Whole,
            });
            examine(some, &acknowledged, &under_way, &format!("step {at} of {steps}, seed {seed}"));
        }
    }
}

#[test]
fn i5_power_fails_at_some_steps_and_nothing_acknowledged_is_lost() {
    power_fails(3, 1);
}

#[test]
#[ignore = "every step with many outcomes takes half a minute"]
fn i5_power_fails_at_every_step_and_nothing_acknowledged_is_lost() {
    power_fails(1, 40);
}

/// Errors at every `stride`-th step, once or for a while, then a power failure at the end.
fn the_disk_fails(stride: usize) {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let steps = steps_of_a_life();
    for number in [EIO, ENOSPC] {
        for count in [1, 40] {
            for at in (0..steps).step_by(stride) {
                let medium = Simulated::new();
                medium.world().fault = Fault::Errors(at, count, number);
                let (acknowledged, _, _) = live(&medium, true);
                let left = medium.world().after_power_failure(|| Kept::Lost);
                examine(left, &acknowledged, &acknowledged, &format!("{count} errors {number} from step {at}"));
            }
        }
    }
}

#[test]
fn i4_errors_at_some_steps_lose_nothing_and_writing_goes_on_after_them() {
    the_disk_fails(7);
}

#[test]
#[ignore = "every step with every error takes half a minute"]
fn i4_errors_at_every_step_lose_nothing_and_writing_goes_on_after_them() {
    the_disk_fails(1);
}

/// A disk that holds a file of these bytes.
fn holding(bytes: Vec<u8>) -> Simulated {
    let files = vec![Content { now: bytes.clone(), synced: bytes, unsynced: Vec::new() }];
    let (name, unfinished) = (Some(0), None);
    let world = World { files, name, kept_name: name, unfinished, marked: 0, steps: 0, fault: Fault::None };
    Simulated(Arc::new(Mutex::new(world)))
}

/// Opens `bytes`: what is in it, or the sentence of the refusal, which names the file and what can be done.
fn look(bytes: Vec<u8>) -> Result<State, String> {
    match Disk::on(holding(bytes), Limits::default(), u64::MAX) {
        Ok((_, registry)) => Ok(state(&registry)),
        Err(error) => {
            let sentence = error.to_string();
            assert!(matches!(error, OpenError::Damaged { .. }), "{sentence}");
            assert!(sentence.contains("simulated/registry.redb") && sentence.contains("move it away"), "{sentence}");
            Err(sentence)
        }
    }
}

/// A file as it is at work, and as it is after an end in order.
fn files() -> [Vec<u8>; 2] {
    let medium = Simulated::new();
    let (mut disk, mut registry) = Disk::on(medium.clone(), Limits::default(), u64::MAX).unwrap();
    for proposals in [(10..200).map(|id| register(id, 500)).collect(), vec![deregister(11)], vec![register(12, 9)]] {
        let mut stage = Stage::new(&registry);
        proposals.into_iter().for_each(|proposal| drop(stage.propose(proposal).unwrap()));
        let events = stage.into_events();
        disk.commit(&registry, &events).unwrap();
        events.into_iter().for_each(|event| registry.apply(event));
    }
    let bytes = || {
        let world = medium.world();
        world.files[world.name.unwrap()].now.clone()
    };
    let at_work = bytes();
    drop(disk);
    [at_work, bytes()]
}

/// Bytes of the head of the file, where redb says which commit is the last.
const HEAD: usize = 320;

/// One flipped bit: every `stride`-th of the head, `each` times in every page behind it; and the file cut off at every page.
fn damage(stride: usize, each: usize) {
    const PAGE: usize = 4096;
    let mut rng = fastrand::Rng::with_seed(6);
    let (mut refused, mut unharmed, mut older) = (0, 0, 0);
    for whole in files() {
        let expected = look(whole.clone()).unwrap();
        let mut judge = |bytes: Vec<u8>, what: String| match look(bytes) {
            // The commit before: the mark tells, see below.
            Ok((_, revision)) if revision < expected.1 && what.contains(" of byte 9 ") => older += 1,
            Ok(found) => {
                assert!(found == expected, "{what}: something else is in it, and nobody is told");
                unharmed += 1;
            }
            Err(_) => refused += 1,
        };
        let bits = (0..HEAD * 8).step_by(stride).chain((1..whole.len() / PAGE).flat_map(|page| {
            let bits: Vec<usize> = (0..each).map(|_| page * PAGE * 8 + rng.usize(0..PAGE * 8)).collect();
            bits
        }));
        for bit in bits.collect::<Vec<_>>() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            judge(flipped, format!("bit {} of byte {} of {}", bit % 8, bit / 8, whole.len()));
        }
        for length in (0..whole.len()).step_by(PAGE) {
            judge(whole[..length].to_vec(), format!("cut off at {length}"));
        }
    }
    println!("{refused} refused, {unharmed} without harm, {older} for the commit before");
    assert!(refused > 100, "{refused}");
}

#[test]
fn i6_a_flipped_bit_or_a_cut_is_refused_by_name_or_does_no_harm() {
    damage(17, 1);
}

#[test]
#[ignore = "many bits of every page take half a minute"]
fn i6_many_flipped_bits_are_refused_by_name_or_do_no_harm() {
    damage(1, 100);
}

#[test]
fn a_file_that_is_mostly_empty_is_small_after_a_restart() {
    let medium = Simulated::new();
    live(&medium, true);
    let small = medium.size().unwrap();
    let (mut disk, registry) = Disk::on(medium.clone(), Limits::default(), u64::MAX).unwrap();
    let mut registry = registry;
    for ids in [100..600, 600..1100] {
        let mut stage = Stage::new(&registry);
        ids.for_each(|id| drop(stage.propose(register(id, 4000)).unwrap()));
        let events = stage.into_events();
        disk.commit(&registry, &events).unwrap();
        events.into_iter().for_each(|event| registry.apply(event));
    }
    let mut stage = Stage::new(&registry);
    (100..1100).for_each(|id| drop(stage.propose(deregister(id)).unwrap()));
    let events = stage.into_events();
    disk.commit(&registry, &events).unwrap();
    events.into_iter().for_each(|event| registry.apply(event));
    let large = medium.size().unwrap();
    drop(disk);
    let (disk, kept) = Disk::on(medium.clone(), Limits::default(), 2 * small).unwrap();
    assert_eq!(state(&kept), state(&registry));
    drop(disk);
    let after = medium.size().unwrap();
    println!("{small}, then {large}, then {after} bytes");
    assert!(large > 2 * small && after <= 2 * small, "{small}, then {large}, then {after} bytes");
}
