// Plots about things: what is had, lost, given, passed on, quarrelled over and mended.
#include "datasets/story_plots.h"

namespace attar {
namespace {

constexpr std::string_view kInsideCauses[] = {"the cat had carried it there", "it had rolled there in the night",
                                              "the baby had hidden it there", "it had fallen there at bedtime",
                                              "the puppy had dragged it there"};
constexpr std::string_view kOutsideCauses[] = {"the wind had blown it there", "a bird had carried it there",
                                               "a dog had dragged it there", "it had fallen there during a game",
                                               "a goat had pushed it there"};
constexpr std::string_view kTools[] = {"glue", "tape", "string", "wire", "strong thread", "two small nails",
                                       "wax",  "clay"};
constexpr std::string_view kFalls[] = {"fell down the stairs", "hit a stone", "fell off the table",
                                       "fell on the hard floor", "hit the wall"};
constexpr std::string_view kOccasions[] = {"birthday", "wedding day", "first day of work", "name day"};

}  // namespace

void lost_thing(Story& s) {
  pick_toy(s, 'o');
  introduce_hero(s);
  s.say(
      "[H] had @ [o.f] {that|which} [R] had {given|made for|bought for} [H.him]{| {last year|last winter|long ago}}.");
  s.maybe(50,
          "[H.s] {loved|liked} the [o] {very much|more than anything|because it was a gift from [R]} and {took it "
          "everywhere|played with it every day|kept it next to [H.his] bed}.");
  introduce_friend(s);
  s.say(
      "{{One|Then, one} [D]}, [H] {could not find the [o]|saw that the [o] was {gone|missing|not there}|looked "
      "for the [o], but it was {gone|missing|not there}}.");
  s.say(
      "{[H.s] {was|felt} {very sad|worried|sad and worried|upset}{ and {began|started} to cry|, so [H.he] asked [F] "
      "for help| "
      "because the [o] was a gift from [R]}|\"I have lost my [o.f],\" said [H]{| sadly}|\"My [o.f] is {gone|lost}, and "
      "I do not "
      "know where it is,\" [H] {said|told [F]}}.");
  const bool inside = s.chance(50);
  const Words spots = inside ? indoor_spots() : outdoor_spots();
  const Words causes = inside ? Words(kInsideCauses) : Words(kOutsideCauses);
  const std::string_view found = s.pick(spots), cause = s.pick(causes);
  const std::string_view first = other_than(s, spots, {found}), second = other_than(s, spots, {found, first});
  s.bind('a', first);
  s.bind('b', second);
  s.bind('c', found);
  s.bind('w', cause);
  s.maybe(
      60,
      "[F] asked, \"{Where did you {last see|leave} your [o]|When did you last play with the [o]|Did you look [a]|Who "
      "had the [o] yesterday}?\"");
  s.say(
      "{First, [H] {looked|searched} [a], but the [o] was not there|[H] {looked|searched} [a] first, but there was no "
      "[o]|"
      "First, [H] and [F] looked [a] and found only {dust|an old sock|a spoon|some leaves|a button}}.");
  s.maybe(
      70,
      "{Then [F.s] {looked|searched} [b], but {it|the [o]} was not there either|Then [F.s] {looked|searched} [b], but "
      "there was only {an old shoe|a gray stone|a spider|an empty box|a little bug}|Next, [F.s] looked [b] and found "
      "{nothing|only {an old shoe|a gray stone|a spider|a leaf}}}.");
  const char finder = s.chance(45) ? 'H' : 'F';
  s.bind('X', s.person(finder));
  s.say(
      "{Finally|At last|After a long time}, [X] {looked [c] and {saw|found} the [o.f]|saw something [o.c] [c], and it "
      "was the "
      "[o]|found the [o] [c]}{!|.}");
  s.say(
      "{The [o] was [c] because [w]|It was [c] because [w], [F] said|[F] said that [w], so {nobody|no one} had seen "
      "{it|the [o]}}.");
  s.maybe(60, finder == 'H'
                  ? "\"{Thank you for helping me|You are a good friend}, [F],\" said [H]."
                  : "\"{Thank you {so|very} much|You are {a true friend|the best}}, [F],\" said [H]{ happily|}.");
  fact_from(s, "where", "Where {was the [o.f]|was [H]'s [o]|did [X] find the [o]}?", "[X] found the [o.f]", spots,
            found, {first, second});
  fact_who(s, "Who found the [o.f] [c]?", "The [o.f] was found by", finder, finder == 'H' ? "FR" : "HR");
  fact_from(s, "why", "Why was the [o.f] [c]?", "The [o] was [c] because", causes, cause);
  fact_who(s, "Who gave the [o.f] to [H]?", "[H] got the [o] from", 'R', "FH");
  close(s, "found [Z.his] [o.f]");
}

void broken_toy(Story& s) {
  pick_toy(s, 'o');
  introduce_hero(s);
  introduce_friend(s);
  s.say(
      "[F] had @ {beautiful|fine|lovely|new|shiny} [o.f] {from [R]|and let [H] play with it|and was very proud of "
      "it}.");
  const bool hero_broke = s.chance(60);
  s.bind('X', s.person(hero_broke ? 'H' : 'F'));
  s.bind('w', s.pick(kFalls));
  s.say(
      "One [D], [X] {dropped the [o]|let the [o] fall|threw the [o] too high}, and it [w] and {broke|cracked}{| in "
      "two}.");
  s.say(
      hero_broke
          ? "{[H.s] {was afraid|was scared|did not want} to tell [F], but [H.he] {told the truth|was honest}|\"I am so "
            "sorry that I broke your [o],\" [H] {said|told [F]}|[H] {said sorry|told [F] the truth} {at once|right "
            "away}, "
            "because {hiding the [o] would be wrong|[F] was a good friend}}."
          : "{[F.s] {sat down and cried|began to cry|was too sad to speak} because the [o] was [F.his] favorite "
            "thing|\"Now my [o] is {broken|ruined},\" {cried|said} [F]{| sadly}}.");
  s.maybe(60, hero_broke
                  ? "[F] was sad {at first|about the [o]}, but [F.he] {was not angry with [H]|did not shout at [H]}."
                  : "[H] said, \"{Do not worry|Do not be sad}, [F], we can {fix|mend} the [o] {together|today}.\"");
  const std::string_view tool = s.pick(Words(kTools)), failed = other_than(s, kTools, {tool});
  s.bind('t', tool);
  s.bind('u', failed);
  s.maybe(60,
          "First, they tried to {fix|mend} the [o] with [u], but {the [o] {fell apart|broke} again|it did not "
          "hold|that did "
          "not help}.");
  s.say(
      "{Then|After that|So} [H] {{went|ran} to [R], who had some [t]|asked [R] for help, and [R] {had|found} some [t] "
      "in a "
      "{drawer|box|jar}}.");
  s.say(
      "{With the [t] from [R]|With [R]'s help and some [t]|Using the [t]}, [H] and [F] {slowly|carefully|patiently} "
      "{fixed|mended|repaired} the [o.f].");
  s.maybe(
      70,
      "{Soon|In the end|When they were done}, the [o] {looked|was} {as good as new|even better than before|almost like "
      "new}, and [F] {laughed|smiled|clapped|gave [H] a hug}.");
  fact_who(s, "Who {broke|dropped} the [o.f]?", "The [o.f] was broken by", hero_broke ? 'H' : 'F',
           hero_broke ? "FR" : "HR");
  fact_from(s, "what", "What did {they|[H] and [F]} use to fix the [o.f]?", "[H] and [F] fixed the [o] with", kTools,
            tool, {failed});
  fact_colour(s, "What color was [F]'s [o]?", "[F]'s [o] was", 'o');
  fact_who(s, "Whose [o] was broken?", "The broken [o] belonged to", 'F', "HR");
  close(s, "helped to fix the [o.f]");
}

void secret_gift(Story& s) {
  const Thing& toy = pick_toy(s, 'o');
  const std::string_view paper = other_than(s, colours(), {s.colour_of('o')});
  const std::string_view spot = other_than(s, indoor_spots(), {"on the kitchen table"});  // too open for a secret
  const std::string_view empty = other_than(s, indoor_spots(), {spot});
  const std::string_view occasion = s.pick(kOccasions);
  s.bind('p', paper);
  s.bind('a', spot);
  s.bind('b', empty);
  s.bind('k', occasion);
  introduce_hero(s);
  s.say(
      "{The next day|Tomorrow|The day after} {was|would be} [R]'s [k], {and|so} [H] wanted to {give [R.him] a "
      "gift|make a "
      "surprise|give [R.him] something nice}.");
  s.say(
      "{[H.s] {saved|had saved} {some|a few} coins and bought @ [o.f] {for [R]|at the market|from [S]}|[H.s] worked "
      "all "
      "{day|afternoon|evening} and made @ [o.f] {for [R]|out of wood and cloth|with [H.his] own hands}}.");
  s.say(
      "{Then [H.s] {wrapped|put} the [o] in [p] paper|[H.s] wrapped the [o.f] in [p] paper} and hid it [a]{, because "
      "it was a "
      "secret| so that [R] would not see it|}.");
  s.maybe(
      70,
      "{Only [F] knew about the secret{ [o]|, and [F.he] did not tell anyone}|[F] helped [H] and promised not to tell "
      "{anyone|[R]} about the [o]}.");
  s.maybe(60, "[R] asked, \"{What are you hiding [b], [H]|Is there something [b], [H]|Why are you smiling, [H]}?\"");
  s.maybe(
      50,
      "{[H] {only|just} {laughed|smiled} and said nothing about the [o]|\"It is {a secret|nothing at all},\" said [H]"
      "{ quickly| with a smile|}|[R] looked [b], but there was nothing there}.");
  s.say(
      "{On [R]'s [k]|The next {morning|day}|When the day came}, [H] {ran to get|fetched|brought} the [p] "
      "{gift|package|parcel} "
      "and gave it to [R].");
  s.say(
      "[R] {opened it|opened the [p] paper|took off the paper} and {saw|found} {the|a beautiful|a lovely} [o.f]{!|.}");
  s.maybe(80,
          "{\"{This is|What} {the best|a wonderful|a lovely} gift,\" said [R]|\"I {love|like} this [o] very much,\" "
          "said [R]|[R] "
          "{hugged [H] and laughed|was so {surprised|happy} that [R.he] {laughed|cried a little|danced}}}.");
  fact_from(s, "where", "Where did [H] hide the [o.f]?", "[H] hid the [o]", indoor_spots(), spot, {empty});
  fact_from(s, "what", "What did [H] give to [R]?", "[H] gave [R] @ [o.c]", toy_nouns(), toy.noun);
  fact_colour(s, "What color was the [o] {for [R]|that [H] gave to [R]}?", "The [o] was", 'o');
  fact_from(s, "colour", "What color was the paper around the [o]?", "The paper around [R]'s [o] was", colours(), paper,
            {s.colour_of('o')});
  fact_who(s, "Who got the [o.f] as a gift?", "The [o.f] was a gift for", 'R', "HF");
  close(s, "made [R] so happy");
}

void passed_along(Story& s) {
  const Thing& toy = pick_toy(s, 'o');
  const std::string_view colour = s.pick(colours());  // drawn before the toy: the order is part of the corpus
  const std::size_t steps = s.below(toys().size() - 1) + 1;
  s.bind('q', toys()[(static_cast<std::size_t>(&toy - toys().data()) + steps) % toys().size()], colour);
  introduce_hero(s);
  s.say("[H] had {two good friends, [F] and [G]|two friends named [F] and [G]|friends called [F] and [G]}.");
  s.say("One [D]{| near the [P]| at the [P]}, [H] {found|bought|was given} @ [o.f].");
  s.maybe(60, "At the same time, [G] had @ [q.f]{| from [R]| in {a bag|a box}}.");
  // Who has it now: each move is told, and the last holder is asked for.
  char holder = 'H', previous = 'R';
  const int moves = s.between(2, 4);
  for (int i = 0; i < moves; ++i) {
    char next = holder;
    while (next == holder) next = "HFGR"[s.below(i == 0 ? 3 : 4)];
    s.bind('X', s.person(holder));
    s.bind('Y', s.person(next));
    s.bind('N', i == 0           ? "{First|In the morning|Soon}"
                : i + 1 == moves ? "{Finally|In the evening|In the end}"
                                 : "{Then|Later|After that|After lunch}");
    s.say(
        "{[N], [X] {gave|handed|lent} the [o] to [Y]{| {because [Y] {asked for it|wanted to see it|needed it}|with a "
        "smile|near "
        "the [P]|for a while}}|[N], [Y] {asked for|borrowed|took} the [o]{|, and [X] {was glad to share|said yes|did "
        "not mind}}|"
        "[N], [Y] said, \"May I {have|hold|borrow} the [o], [X],\" and [X] gave it to [Y.him]}.");
    previous = holder;
    holder = next;
  }
  s.maybe(50,
          "{[H] {told|asked} [F] and [G] {not to lose|to take good care of} the [o]|Everyone {liked|loved} the [o] "
          "{because "
          "it was so [o.c]|that [H] had shared}}.");
  s.bind('X', s.person(holder));
  s.bind('Y', s.person(previous));
  const std::string likely = std::string(1, previous) + (holder == 'H' ? "FG" : previous == 'H' ? "FG" : "HF");
  std::string others;
  for (const char key : likely) {
    if (key != holder && others.find(key) == std::string::npos) others += key;
  }
  s.quiz("who",
         "{{When the sun went down|At the end of the day|That evening|At night}, the [o.f] {was with|stayed with|was "
         "in the "
         "hands of}|Now the {one|person} who had the [o.f] was}",
         std::string(s.person(holder).name) + ".", [&] {
           std::vector<std::string_view> names;
           for (const char key : others) names.push_back(s.person(key).name);
           names.resize(3, s.person(holder).name);
           auto wrong = s.wrong(all_names(), s.person(holder).name, {names[0], names[1], names[2]});
           for (auto& name : wrong) name += ".";
           return wrong;
         }());
  fact_who(s, "Who had the [o.f] {in the end|at the end of the day}?", "The [o.f] ended up with", holder, others);
  fact_who(s, "Who had the [o.f] first?", "The first to have the [o.f] was", 'H', "FG");
  fact_colour(s, "What color was the [o] that [H] {shared|had}?", "[H]'s [o] was", 'o');
  close(s, "shared the [o.f]");
}

void quarrel(Story& s) {
  pick_toy(s, 'o');
  const std::string_view spot = s.pick(outdoor_spots()), alone = other_than(s, places(), {});
  s.bind('a', spot);
  s.bind('b', alone);
  introduce_hero(s);
  introduce_friend(s);
  s.say("One [D], [H] and [F] {found|saw} @ [o.f] [a].");
  s.say(
      "{Both of them wanted {to play with the [o]|the [o]}{| first}|[H] wanted the [o], {and|but} [F] wanted it "
      "too|\"It is mine "
      "because I saw the [o] first,\" said [H]}.");
  s.say(
      "{\"No, the [o] {is mine|belongs to me},\" {shouted|cried|said} [F]{| in a loud voice}|They {pulled and "
      "pulled|fought} "
      "over the [o] until {it fell into the mud|[F] began to cry}|[F] {pulled|held} one side of the [o], and [H] "
      "{pulled|held} "
      "the other}.");
  s.say(
      "{They were {so|both very} angry {that|, and} [H] went home and [F] {went|walked} to the [b]|[F] {ran|walked} to "
      "the [b], and [H] "
      "{ran|walked} home {alone|without a word}}.");
  s.maybe(70,
          "{At home|In the kitchen|In the quiet house}, [H] {felt|was} {lonely|sad|sorry} because {there was nobody to "
          "play "
          "with|[F] was not there|the house was too quiet}.");
  s.maybe(60,
          "[R] {said|told [H]}, \"{A friend is worth more than @ [o]|No [o] is better than a good friend|It is brave "
          "to say "
          "sorry, [H]|You can share the [o] with [F]}.\"");
  const char first = s.chance(60) ? 'H' : 'F';
  s.bind('X', s.person(first));
  s.bind('Y', s.person(first == 'H' ? 'F' : 'H'));
  s.say(
      first == 'H'
          ? "{So|Then} [H] {went|ran|walked} to the [b] and said, \"I am {sorry|so sorry}, [F], {I was wrong|I was not "
            "fair|I should share the [o]|the [o] is for both of us}.\""
          : "{Just then|Soon|A little later}, [F] {knocked at the door|came to the house} and said, \"I am {sorry|so "
            "sorry}, [H], {I was wrong|I was not fair|I should share the [o]|the [o] is for both of us}.\"");
  s.say(
      "\"I am sorry too, {and|so} {you can have the [o] first|we can take turns with the [o]|let us play together},\" "
      "{answered|said} [Y].");
  s.maybe(
      70,
      "{After that|Then|So} they {took turns with|shared|played with} the [o.f] {until {dinner|dark|the evening}|all "
      "afternoon|and laughed}.");
  fact_who(s, "Who said sorry first?", "The first to say sorry about the [o] was", first, first == 'H' ? "FR" : "HR");
  fact_from(s, "where", "Where did [H] and [F] find the [o.f]?", "they found the [o.f]", outdoor_spots(), spot);
  fact_from(s, "where", "Where did [F] go after the quarrel?", "[F] left the [o] and went to the", places(), alone);
  fact_colour(s, "What color was the [o] [a]?", "The [o] [a] was", 'o');
  close(s, "made peace with [F]");
}

}  // namespace attar
