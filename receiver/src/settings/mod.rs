//! QEMU's migration capabilities and parameters as a destination keeps them:
//! the tables of three versions, what may be set with which words of refusal,
//! and the two JSON answers.
//!
//! Nothing here acts: the receiver reads what it needs through the accessors.
//! What QEMU refuses for want of a host feature (KVM's dirty ring) is refused
//! here too; what its build lacks (compressions) is not, see
//! [`MultifdCompression`].

mod aliases;
mod capability;
mod combination;
mod compression;
mod global;
mod parameter;
pub(crate) mod qapi;
mod range;
mod version;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use self::capability::Capability;
pub use self::compression::MultifdCompression;
pub(crate) use self::global::parse_size;
pub use self::version::QemuVersion;

use self::combination::{CapabilitySet, Change, ZERO_COPY};
use self::parameter::Held;

/// How far the incoming migration is, as far as settings care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncomingPhase {
    /// No listener: everything may be set.
    NotStarted,
    /// The listener is open, no stream yet.
    Listening,
    /// A stream arrives.
    Active,
    /// Completed or failed, and no new run begun.
    Ended,
}

/// Capabilities and parameters of one monitor's machine.
#[derive(Clone, Debug)]
pub struct Settings {
    version: QemuVersion,
    capabilities: CapabilitySet,
    /// By place in the table of parameters; nothing where it is not listed.
    parameters: [Option<Held>; parameter::COUNT],
}

impl Settings {
    /// Everything off and at the defaults of `version`.
    #[must_use]
    pub fn new(version: QemuVersion) -> Self {
        let mut parameters = [const { None }; parameter::COUNT];
        for (index, parameter) in parameter::of(version) {
            parameters[index] = parameter.initial();
        }
        Self { version, capabilities: CapabilitySet::default(), parameters }
    }

    /// The version whose tables these are.
    #[must_use]
    pub fn version(&self) -> QemuVersion {
        self.version
    }

    /// `migrate-set-capabilities`: `list` is its argument `capabilities`. All
    /// of it takes effect or none.
    ///
    /// # Errors
    /// QEMU's text: a member missing or of another type, an unknown name, a
    /// combination that does not go, or too late for the phase.
    pub fn set_capabilities(&mut self, list: &Value, phase: IncomingPhase) -> Result<(), String> {
        let mut new = self.capabilities;
        for (index, item) in qapi::list(list, "capabilities")?.iter().enumerate() {
            let path = format!("capabilities[{index}]");
            let item = qapi::object(item, &path)?;
            let name = qapi::string(
                qapi::member(item, &path, "capability")?,
                &qapi::join(&path, "capability"),
            )?;
            let capability = Capability::named(name, self.version)
                .ok_or_else(|| format!("Parameter 'capability' does not accept value '{name}'"))?;
            let on =
                qapi::boolean(qapi::member(item, &path, "state")?, &qapi::join(&path, "state"))?;
            qapi::only(item, &path, &["capability", "state"])?;
            new.set(capability, on);
        }
        self.change_to(new, phase).check()?;
        self.capabilities = new;
        Ok(())
    }

    /// `migrate-set-parameters`: `arguments` are all its arguments. All of
    /// them take effect or none.
    ///
    /// # Errors
    /// QEMU's text: another type, an unknown name, a value out of its range.
    pub fn set_parameters(&mut self, arguments: &Map<String, Value>) -> Result<(), String> {
        let mut new = self.clone();
        let mut known: Vec<_> = arguments
            .iter()
            .filter_map(|(name, value)| Some((parameter::named(name, self.version)?, value)))
            .collect();
        known.sort_by_key(|((_, parameter), _)| parameter::reading_place(parameter.name));
        for ((index, parameter), value) in known {
            let held = parameter.read(value, self.version)?;
            if !parameter.is_forgotten(self.version) {
                new.hold(index, held);
            }
        }
        if let Some(name) =
            arguments.keys().find(|name| parameter::named(name, self.version).is_none())
        {
            return Err(format!("Parameter '{name}' is unexpected"));
        }
        new.check_parameters(self)?;
        *self = new;
        Ok(())
    }

    /// Judges everything as it is, for settings made by
    /// [`set_global`](Self::set_global).
    ///
    /// # Errors
    /// QEMU's text for the first rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        self.check_parameters(self)?;
        self.change_to(self.capabilities, IncomingPhase::NotStarted).check()
    }

    /// The answer to `query-migrate-capabilities`.
    #[must_use]
    pub fn capabilities_json(&self) -> Value {
        Capability::of(self.version)
            .map(|capability| json!({"state": self.has(capability), "capability": capability.name()}))
            .collect()
    }

    /// The answer to `query-migrate-parameters`.
    #[must_use]
    pub fn parameters_json(&self) -> Value {
        let listed = parameter::of(self.version).filter_map(|(index, parameter)| {
            let held = self.parameters[index].as_ref()?;
            Some((parameter.name.to_owned(), held.to_json()))
        });
        Value::Object(listed.collect())
    }

    /// Whether `capability` is on.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.has(capability)
    }

    /// Whether pages come over several channels.
    #[must_use]
    pub fn multifd(&self) -> bool {
        self.has(Capability::Multifd)
    }

    /// How many multifd channels, 1 to 255.
    #[must_use]
    pub fn multifd_channels(&self) -> u8 {
        let channels = self.number("multifd-channels").and_then(|n| u8::try_from(n).ok());
        channels.expect("multifd-channels is a uint8 of every version")
    }

    /// How multifd pages are packed.
    #[must_use]
    pub fn compression(&self) -> MultifdCompression {
        MultifdCompression::named(self.text("multifd-compression"))
            .expect("only names of the table are held")
    }

    /// Whether MIGRATION events are sent.
    #[must_use]
    pub fn events(&self) -> bool {
        self.has(Capability::Events)
    }

    /// Whether `return-path` is set here; the source decides whether there is one.
    #[must_use]
    pub fn return_path(&self) -> bool {
        self.has(Capability::ReturnPath)
    }

    /// Whether devices must agree before the switchover.
    #[must_use]
    pub fn switchover_ack(&self) -> bool {
        self.has(Capability::SwitchoverAck)
    }

    /// Whether postcopy may begin.
    #[must_use]
    pub fn postcopy_ram(&self) -> bool {
        self.has(Capability::PostcopyRam)
    }

    /// Whether urgent postcopy pages have a channel of their own.
    #[must_use]
    pub fn postcopy_preempt(&self) -> bool {
        self.has(Capability::PostcopyPreempt)
    }

    /// Whether shared RAM blocks are left out of the stream.
    #[must_use]
    pub fn x_ignore_shared(&self) -> bool {
        self.has(Capability::XIgnoreShared)
    }

    /// Whether RAM lies at fixed places of a file.
    #[must_use]
    pub fn mapped_ram(&self) -> bool {
        self.has(Capability::MappedRam)
    }

    /// Whether the source's UUID must be ours.
    #[must_use]
    pub fn validate_uuid(&self) -> bool {
        self.has(Capability::ValidateUuid)
    }

    /// The id of the TLS credentials object, if migration is under TLS.
    #[must_use]
    pub fn tls_creds(&self) -> Option<&str> {
        Some(self.text("tls-creds")).filter(|id| !id.is_empty())
    }

    /// The id of the authorization object for TLS clients, if any.
    #[must_use]
    pub fn tls_authz(&self) -> Option<&str> {
        Some(self.text("tls-authz")).filter(|id| !id.is_empty())
    }

    /// Whether files are read past the page cache.
    #[must_use]
    pub fn direct_io(&self) -> bool {
        self.held("direct-io") == Some(&Held::Flag(true))
    }

    /// Judges all parameters together; `old` is what held before.
    fn check_parameters(&self, old: &Self) -> Result<(), String> {
        for rule in &range::RULES {
            if let Some(found) = self.number(rule.name) {
                rule.check(found, self.version)?;
            }
            // QEMU judges these between its ranges.
            match rule.name {
                "xbzrle-cache-size" => self.check_max_cpu_throttle()?,
                "announce-step" => self.check_bitmaps_and_plainness(old)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_max_cpu_throttle(&self) -> Result<(), String> {
        match (self.number("max-cpu-throttle"), self.number("cpu-throttle-initial")) {
            (Some(max), Some(initial)) => range::check_max_cpu_throttle(max, initial, self.version),
            _ => Ok(()),
        }
    }

    fn check_bitmaps_and_plainness(&self, old: &Self) -> Result<(), String> {
        if let Some(Held::List(nodes)) = self.held("block-bitmap-mapping") {
            aliases::check(nodes)?;
        }
        if self.has(Capability::ZeroCopySend) && !self.is_plain() {
            return Err(ZERO_COPY.into());
        }
        // For this one QEMU looks at what held before: what does not go with mapped-ram is
        // taken, and the next parameters are refused, whatever they are.
        if self.mapped_ram() && !old.is_plain() {
            return Err(
                "Mapped-ram only available for non-compressed non-TLS multifd migration".into()
            );
        }
        Ok(())
    }

    /// Neither compressed nor under TLS.
    fn is_plain(&self) -> bool {
        self.compression() == MultifdCompression::None && self.tls_creds().is_none()
    }

    fn change_to(&self, new: CapabilitySet, phase: IncomingPhase) -> Change {
        Change {
            version: self.version,
            phase,
            old: self.capabilities,
            new,
            compression: self.compression(),
            tls: self.tls_creds().is_some(),
        }
    }

    fn switch_capability(&mut self, capability: Capability, on: bool) {
        self.capabilities.set(capability, on);
    }

    fn hold(&mut self, index: usize, held: Held) {
        self.parameters[index] = Some(held);
    }

    fn held(&self, name: &str) -> Option<&Held> {
        let (index, _) = parameter::named(name, self.version)?;
        self.parameters[index].as_ref()
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.held(name)? {
            Held::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> &str {
        match self.held(name) {
            Some(Held::Text(text)) => text,
            _ => "",
        }
    }
}
