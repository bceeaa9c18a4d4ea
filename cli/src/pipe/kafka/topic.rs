//! Topics: made when they are not there, looked at when they are.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::error::RDKafkaErrorCode;

use super::super::wishes::Wishes;

const DEADLINE: Duration = Duration::from_secs(10);

/// Makes a topic; one that is there stays as it is. The error says what is wrong.
pub(crate) async fn ensure<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
    has_partitions_of_its_own: bool,
    wishes: &Wishes,
    warn: &dyn Fn(&str),
) -> Result<(), String> {
    let wanted = wishes.partitions.filter(|_| !has_partitions_of_its_own);
    // -1 is the broker's own setting.
    let partitions = wanted.map_or(-1, |wanted| i32::try_from(wanted).unwrap_or(i32::MAX));
    let replicas =
        wishes.replicas.map_or(-1, |replicas| i32::try_from(replicas).unwrap_or(i32::MAX));
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    let options =
        AdminOptions::new().request_timeout(Some(DEADLINE)).operation_timeout(Some(DEADLINE));
    let made = admin.create_topics([&new], &options).await.map_err(|error| error.to_string())?;
    match made.into_iter().next() {
        None | Some(Ok(_)) => {}
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
            let there = partitions_of(admin, topic);
            if let (Some(wanted), Some(there)) = (wanted, there)
                && usize::try_from(wanted) != Ok(there)
            {
                warn(&format!(
                    "the topic {topic} has {there} partitions, and --partitions says {wanted}; it stays as it is"
                ));
            }
        }
        // Whoever may write to a topic need not be allowed to make it.
        Some(Err((
            _,
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ))) if partitions_of(admin, topic).is_some() => {}
        Some(Err((_, code))) => {
            return Err(format!("the topic {topic} is not there and cannot be made: {code}"));
        }
    }
    for risk in risks(admin, topic, &options).await {
        warn(&risk);
    }
    Ok(())
}

fn partitions_of<C: ClientContext>(admin: &AdminClient<C>, topic: &str) -> Option<usize> {
    let metadata = admin.inner().fetch_metadata(Some(topic), DEADLINE).ok()?;
    let found = metadata.topics().iter().find(|found| found.name() == topic)?;
    (found.error().is_none() && !found.partitions().is_empty()).then(|| found.partitions().len())
}

/// Settings that can lose messages that were acknowledged. Who may not see them is told nothing.
async fn risks<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
    options: &AdminOptions,
) -> Vec<String> {
    let mut risks = Vec::new();
    let metadata = admin.inner().fetch_metadata(Some(topic), DEADLINE);
    let replicas = metadata.ok().and_then(|metadata| {
        let found = metadata.topics().first()?;
        found.partitions().iter().map(|partition| partition.replicas().len()).min()
    });
    if replicas == Some(1) {
        risks.push(format!(
            "the topic {topic} has one replica: a crash of its broker's machine can lose acknowledged messages; use --replicas 3"
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
            "the topic {topic} has min.insync.replicas=1: a message is acknowledged when one broker has it; set it to 2"
        ));
    }
    if value("unclean.leader.election.enable").as_deref() == Some("true") {
        risks.push(format!(
            "the topic {topic} has unclean.leader.election.enable=true: an election can lose acknowledged messages; set it to false"
        ));
    }
    risks
}
