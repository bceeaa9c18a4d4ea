//! Topics: made when they are not there, looked at when they are.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::super::broker::Refusal;
use super::super::wishes::Wishes;

/// How long the cluster may take for one answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a new topic may take to be known to the broker that is asked.
const PROPAGATION: Duration = Duration::from_secs(10);

/// Makes a topic; one that is there stays as it is. The error says what is wrong.
pub(crate) async fn ensure<C: ClientContext + 'static>(
    admin: &Arc<AdminClient<C>>,
    topic: &str,
    has_partitions_of_its_own: bool,
    wishes: &Wishes,
    warn: &dyn Fn(&str),
) -> Result<(), Refusal> {
    let wanted = wishes.partitions.filter(|_| !has_partitions_of_its_own);
    // -1 is the broker's own setting.
    let partitions = wanted.map_or(-1, |wanted| i32::try_from(wanted).unwrap_or(i32::MAX));
    let replicas =
        wishes.replicas.map_or(-1, |replicas| i32::try_from(replicas).unwrap_or(i32::MAX));
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    let options =
        AdminOptions::new().request_timeout(Some(DEADLINE)).operation_timeout(Some(DEADLINE));
    let cannot = |why: &dyn Display, passes: bool| {
        let why = format!("the topic {topic} is not there and cannot be made: {why}");
        if passes { Refusal::ForNow(why) } else { Refusal::ForGood(why) }
    };
    let made = match admin.create_topics([&new], &options).await {
        Ok(made) => made,
        Err(KafkaError::AdminOp(code)) => return Err(cannot(&code, passes(code))),
        Err(error) => return Err(cannot(&error, false)),
    };
    let replicas = match made.into_iter().next() {
        None | Some(Ok(_)) => known(admin, topic).await,
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
            let replicas = known(admin, topic).await;
            if let (Some(wanted), Some(there)) = (wanted, replicas.as_ref().map(Vec::len))
                && usize::try_from(wanted) != Ok(there)
            {
                warn(&format!(
                    "the topic {topic} has {there} partitions, and --partitions says {wanted}; it stays as it is"
                ));
            }
            replicas
        }
        Some(Err((_, code))) => {
            // Whoever may write to a topic need not be allowed to make it.
            let is_forbidden = matches!(
                code,
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
            );
            match replicas_of(admin, topic).await {
                Some(replicas) if is_forbidden => Some(replicas),
                _ => return Err(cannot(&code, passes(code))),
            }
        }
    };
    for risk in risks(admin, topic, replicas, &options).await {
        warn(&risk);
    }
    Ok(())
}

/// Whether an error may be gone soon: a cluster that starts, is busy or elects a controller gives it, and so does one
/// that misses a broker for a while.
fn passes(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::MessageTimedOut
            | RDKafkaErrorCode::NotController
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::BrokerNotAvailable
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::NetworkException
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::ThrottlingQuotaExceeded
            | RDKafkaErrorCode::InvalidReplicationFactor
    )
}

/// Waits until the broker that is asked knows a topic that is there, and gives the replicas of each partition.
async fn known<C: ClientContext + 'static>(
    admin: &Arc<AdminClient<C>>,
    topic: &str,
) -> Option<Vec<usize>> {
    let end = Instant::now() + PROPAGATION;
    loop {
        let replicas = replicas_of(admin, topic).await;
        if replicas.is_some() || Instant::now() > end {
            return replicas;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many replicas each partition of a topic has. `None` where the topic is not known.
async fn replicas_of<C: ClientContext + 'static>(
    admin: &Arc<AdminClient<C>>,
    topic: &str,
) -> Option<Vec<usize>> {
    let (admin, topic) = (Arc::clone(admin), topic.to_owned());
    // It blocks.
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), DEADLINE).ok()?;
        let found = metadata.topics().iter().find(|found| found.name() == topic)?;
        let replicas = found.partitions().iter().map(|partition| partition.replicas().len());
        (found.error().is_none() && !found.partitions().is_empty()).then(|| replicas.collect())
    });
    asked.await.ok().flatten()
}

/// Settings that can lose messages that were acked. Who may not see them is told nothing.
async fn risks<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
    replicas: Option<Vec<usize>>,
    options: &AdminOptions,
) -> Vec<String> {
    let mut risks = Vec::new();
    let replicas = replicas.and_then(|replicas| replicas.into_iter().min());
    if replicas == Some(1) {
        risks.push(format!(
            "the topic {topic} has one replica: a crash of its broker's machine can lose acked messages; use --replicas 3"
        ));
    }
    let asked = admin.describe_configs([&ResourceSpecifier::Topic(topic)], options).await;
    let Some(Ok(config)) = asked.ok().and_then(|described| described.into_iter().next()) else {
        return risks;
    };
    let value = |name| config.get(name).and_then(|entry| entry.value.clone());
    if replicas.is_some_and(|replicas| replicas > 1)
        && value("min.insync.replicas").as_deref() == Some("1")
    {
        risks.push(format!(
            "the topic {topic} has min.insync.replicas=1: a message is acked when one broker has it; set it to 2"
        ));
    }
    if value("unclean.leader.election.enable").as_deref() == Some("true") {
        risks.push(format!(
            "the topic {topic} has unclean.leader.election.enable=true: an election can lose acked messages; set it to false"
        ));
    }
    risks
}
